-- Out of the dead letters with all attempts anew; a delayed job becomes ready now.
-- ARGV: id
local id = ARGV[1]
local now = now_ms()
local task = redis.call('HMGET', task_key(id), 'state', 'priority', 'key')
if not task[1] then return {'missing'} end
if task[1] == 'dead' then
  if task[3] then
    -- At most one waiting job per key holds for this way in, too.
    local holder = redis.call('GET', unique_key(task[3]))
    if holder and holder ~= id then
      local state = redis.call('HGET', task_key(holder), 'state')
      if state == 'ready' or state == 'delayed' or state == 'leased' then
        return {'key_taken', holder}
      end
    end
    redis.call('SET', unique_key(task[3]), id)
  end
  redis.call('ZREM', key('dead'), id)
  redis.call('HSET', task_key(id), 'attempts', 0)
  redis.call('HDEL', task_key(id), 'ended_ms', 'cancel', 'unknown_since_ms')
elseif task[1] == 'delayed' then
  redis.call('ZREM', key('delayed'), id)
else
  return {task[1]}
end
make_ready(id, tonumber(task[2]), next_sequence(), now)
wake()
return {'ready'}
