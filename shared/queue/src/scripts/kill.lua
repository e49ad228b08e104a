-- To the dead letters at once, running or not; a worker that runs it loses its lease.
-- ARGV: id, done_cap, dead_cap
local id = ARGV[1]
local state = redis.call('HGET', task_key(id), 'state')
if not state then return 'missing' end
if state == 'ready' or state == 'delayed' or state == 'leased' then
  end_job(id, 'dead', 'killed by an operator', now_ms(), tonumber(ARGV[2]), tonumber(ARGV[3]))
  return 'killed'
end
return state
