-- Ends one run of a job.
-- ARGV: id, worker, epoch, 'done' | 'retry' | 'give_back' | 'dead', error or reason,
--       delay_ms, done_cap, dead_cap, unknown_limit_ms or -1
local id, worker, epoch, outcome, error = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local delay, done_cap, dead_cap = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local unknown_limit = tonumber(ARGV[9])
local now = now_ms()
local lease = worker .. '/' .. epoch

-- Sent again because the reply was lost.
if redis.call('HGET', task_key(id), 'acknowledged') == lease then return 'repeated' end
if not holds_lease(id, worker, epoch, now) then return 'lost' end

redis.call('ZREM', key('leased'), id)
redis.call('HSET', task_key(id), 'acknowledged', lease)
local task = redis.call('HMGET', task_key(id), 'priority', 'seq', 'attempts', 'max_attempts',
  'cancel', 'unknown_since_ms')

if outcome == 'done' then
  end_job(id, 'done', '', now, done_cap, dead_cap)
  return 'done'
end
if task[5] then
  end_job(id, 'cancelled', 'cancelled', now, done_cap, dead_cap)
  return 'cancelled'
end
if outcome == 'dead' or (outcome == 'retry' and tonumber(task[3]) >= tonumber(task[4])) then
  end_job(id, 'dead', error, now, done_cap, dead_cap)
  return 'dead'
end

redis.call('HSET', task_key(id), 'error', error)
if outcome == 'retry' then
  redis.call('HDEL', task_key(id), 'unknown_since_ms')
  count('retried')
  place(id, tonumber(task[1]), delay, now)
  return 'retry'
end

-- Given back: no attempt counted, and without a delay its old place in the queue.
redis.call('HINCRBY', task_key(id), 'attempts', -1)
count('given_back')
if unknown_limit >= 0 then
  -- Not later than now: the clock may have been set back.
  local since = math.min(now, tonumber(task[6] or now))
  if now - since >= unknown_limit then
    end_job(id, 'dead', error, now, done_cap, dead_cap)
    return 'dead'
  end
  redis.call('HSET', task_key(id), 'unknown_since_ms', since)
else
  -- Its worker knew it: whoever does not know it counts anew.
  redis.call('HDEL', task_key(id), 'unknown_since_ms')
end
if delay > 0 then
  make_delayed(id, delay, now)
else
  make_ready(id, tonumber(task[1]), task[2], now)
  wake()
end
return 'give_back'
