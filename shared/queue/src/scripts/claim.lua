-- Takes one job for one free slot. On the way: jobs that are due become ready,
-- leases that ran out are taken back from workers that are no more.
-- ARGV: worker, token, lease_ms, done_cap, dead_cap
local worker, token, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local done_cap, dead_cap = tonumber(ARGV[4]), tonumber(ARGV[5])
local now = now_ms()

local function give(id, epoch)
  local task = redis.call('HMGET', task_key(id), 'payload', 'attempts', 'max_attempts',
    'priority', 'enqueued_ms', 'ready_ms')
  return {'job', id, task[1], tonumber(task[2]), tonumber(task[3]), tonumber(task[4]),
    tonumber(task[5]), math.max(0, now - tonumber(task[6] or now)), tonumber(epoch)}
end

-- A token serves for one job. A claim whose reply was lost is sent again with the
-- same token and gets the same job; one that arrives late (it sat in the buffer of
-- a connection that was given up) finds its token used and takes nothing.
local claim_key = key('claim:' .. worker)
local last = redis.call('HMGET', claim_key, 'token', 'id', 'epoch')
local used = tonumber(last[1] or '')
if used and token <= used then
  if token == used and last[2] ~= '' and holds_lease(last[2], worker, last[3], now) then
    redis.call('ZADD', key('leased'), now + lease, last[2])
    return give(last[2], last[3])
  end
  return {'stale'}
end

-- A lease or delay further ahead than its own length is left over from a clock
-- that has been set back since: cut it, or a job would wait for hours.
local function cut(set, field, entries)
  for i = 1, #entries, 2 do
    local most = tonumber(redis.call('HGET', task_key(entries[i]), field) or 0)
    if tonumber(entries[i + 1]) > now + most then
      redis.call('ZADD', key(set), now + most, entries[i])
    end
  end
end
cut('leased', 'lease_ms',
  redis.call('ZRANGEBYSCORE', key('leased'), now + lease + 1, '+inf', 'WITHSCORES', 'LIMIT', 0, 100))
local seen = tonumber(redis.call('GET', key('clock')) or 0)
if now + 1000 < seen then
  cut('delayed', 'delay_ms', redis.call('ZRANGE', key('delayed'), 0, -1, 'WITHSCORES'))
end
if now + 1000 < seen or now > seen + 1000 then redis.call('SET', key('clock'), now) end

-- At most 1,000 a time, the earliest first: a hundred thousand that are due at once
-- must not hold up the renewals of everybody's leases.
local due = redis.call('ZRANGEBYSCORE', key('delayed'), '-inf', now, 'LIMIT', 0, 1000)
if #due > 0 then
  redis.call('ZREMRANGEBYRANK', key('delayed'), 0, #due - 1)
  local sequence = redis.call('INCRBY', key('seq'), #due) - #due
  for i, id in ipairs(due) do
    local priority = redis.call('HGET', task_key(id), 'priority')
    if priority then make_ready(id, tonumber(priority), sequence + i, now) end
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('leased'), '-inf', '(' .. now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', key('leased'), id)
  local task = redis.call('HMGET', task_key(id), 'priority', 'seq', 'attempts', 'max_attempts',
    'worker', 'cancel')
  if task[1] then
    local error = 'attempt ' .. task[3] .. ' ended with its lease: worker ' .. task[5] .. ' crashed or froze'
    count('rescued')
    if task[6] then
      end_job(id, 'cancelled', 'cancelled', now, done_cap, dead_cap)
    elseif tonumber(task[3]) >= tonumber(task[4]) then
      end_job(id, 'dead', error, now, done_cap, dead_cap)
    else
      -- The attempt stays counted. The old sequence number: back to where it was.
      redis.call('HSET', task_key(id), 'error', error)
      redis.call('HDEL', task_key(id), 'unknown_since_ms')
      make_ready(id, tonumber(task[1]), task[2], now)
    end
  end
end

if redis.call('EXISTS', key('paused')) == 1 then return {'paused'} end

for _ = 1, 1000 do
  local popped = redis.call('ZPOPMIN', key('ready'))
  if not popped[1] then break end
  local id = popped[1]
  -- An id without a task was deleted by hand: passed over.
  if redis.call('HEXISTS', task_key(id), 'priority') == 1 then
    local epoch = redis.call('HINCRBY', task_key(id), 'epoch', 1)
    -- Counted here, not at the end: a job that kills its worker must not live for ever.
    redis.call('HINCRBY', task_key(id), 'attempts', 1)
    redis.call('HSET', task_key(id), 'state', 'leased', 'worker', worker,
      'leased_ms', now, 'lease_ms', lease)
    -- This run begins after whatever asked for one more: it is that one.
    redis.call('HDEL', task_key(id), 'again')
    redis.call('ZADD', key('leased'), now + lease, id)
    redis.call('HSET', claim_key, 'token', token, 'id', id, 'epoch', epoch)
    redis.call('PEXPIRE', claim_key, 3600000)
    return give(id, epoch)
  end
end

-- Nothing: the next job that is due tells how long one may sleep.
local next_due = redis.call('ZRANGE', key('delayed'), 0, 0, 'WITHSCORES')
if next_due[2] then return {'empty', math.max(0, tonumber(next_due[2]) - now)} end
return {'empty', -1}
