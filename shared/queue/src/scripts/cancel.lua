-- ARGV: id, done_cap, dead_cap
local id = ARGV[1]
local state = redis.call('HGET', task_key(id), 'state')
if not state then return 'missing' end
if state == 'ready' or state == 'delayed' then
  end_job(id, 'cancelled', 'cancelled', now_ms(), tonumber(ARGV[2]), tonumber(ARGV[3]))
  return 'removed'
end
if state == 'leased' then
  -- Its worker reads this with the next renewal, stops the handler and ends the job.
  redis.call('HSET', task_key(id), 'cancel', 1)
  return 'requested'
end
return state
