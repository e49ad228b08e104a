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
    local state = redis.call('HGET', task_key(holder), 'state')
    if state == 'ready' or state == 'delayed' then return {'duplicate', holder} end
    if state == 'leased' then
      if ARGV[8] ~= 'again' then return {'duplicate', holder} end
      redis.call('HSET', task_key(holder), 'again', cjson.encode(job))
      return {'again', holder}
    end
    -- Ended: the key is held on for a while (it has a TTL), or its job was
    -- deleted by hand, and then a key without a job must not block for ever.
    if redis.call('PTTL', unique_key(job.key)) > 0 then return {'duplicate', holder} end
  end
end

add_job(job, now)
return {'added', job.id}
