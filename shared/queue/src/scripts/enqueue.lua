-- ARGV: id, payload, priority, max_attempts, delay_ms, unique key or '',
--       keep_key_ms, 'skip' or 'again' (what to do while the key's job runs)
local now = now_ms()
local job = {
  id = ARGV[1], payload = ARGV[2], priority = ARGV[3], max_attempts = ARGV[4],
  delay = ARGV[5], key = ARGV[6], keep_key = ARGV[7],
}

-- The id comes from the producer: an enqueue whose reply was lost may be sent again.
if redis.call('EXISTS', task_key(job.id)) == 1 then return {'added', job.id} end

if job.key ~= '' then
  local holder = redis.call('GET', unique_key(job.key))
  if holder then
    local task = redis.call('HMGET', task_key(holder), 'state', 'attempts', 'priority', 'again')
    local state, again = task[1], ARGV[8] == 'again'
    -- A job that says it waits or runs and is in no set will never end: its set was lost.
    if (state == 'ready' or state == 'delayed' or state == 'leased')
      and not redis.call('ZSCORE', key(state), holder) then
      redis.call('DEL', task_key(holder))
      state = nil
    end
    if state == 'ready' then return {'duplicate', holder} end
    if state == 'delayed' then
      -- What is wanted sooner must not wait for what was wanted later. A back-off is kept:
      -- a job that fails would be out of attempts after as many wishes.
      local due = tonumber(redis.call('ZSCORE', key('delayed'), holder) or now)
      if again and task[2] == '0' and now + tonumber(job.delay) < due then
        redis.call('ZREM', key('delayed'), holder)
        place(holder, tonumber(task[3]), tonumber(job.delay), now)
      end
      return {'duplicate', holder}
    end
    if state == 'leased' then
      if not again then return {'duplicate', holder} end
      -- Of several wishes the soonest is kept.
      if not task[4] or tonumber(job.delay) < tonumber(cjson.decode(task[4]).delay) then
        redis.call('HSET', task_key(holder), 'again', cjson.encode(job))
      end
      return {'again', holder}
    end
    -- Ended: the key is held on for a while (it has a TTL), or its job was
    -- deleted by hand, and then a key without a job must not block for ever.
    local left = redis.call('PTTL', unique_key(job.key))
    -- Redis keeps the moment: longer than it was to be, the clock has been set back since.
    local most = tonumber(redis.call('HGET', task_key(holder), 'keep_key_ms') or left) or left
    if left > most then redis.call('PEXPIRE', unique_key(job.key), most) end
    if left > 0 then return {'duplicate', holder} end
  end
end

add_job(job, now)
return {'added', job.id}
