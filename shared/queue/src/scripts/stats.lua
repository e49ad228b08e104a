-- Returns: now, ready, delayed, leased, dead, done, paused since (ms or -1), the
-- oldest ready job's ready_ms (or -1), the counts as a flat list, the keys that were
-- put aside and are there still, and delayed jobs that their last worker did not know.
local oldest = -1
for priority = 0, 10 do
  local first = redis.call('ZRANGEBYSCORE', key('ready'), ready_score(priority, 0),
    '(' .. string.format('%.0f', ready_score(priority - 1, 0)), 'LIMIT', 0, 1)
  if first[1] then
    local at = tonumber(redis.call('HGET', task_key(first[1]), 'ready_ms') or -1)
    if at >= 0 and (oldest < 0 or at < oldest) then oldest = at end
  end
end
local aside = {}
for _, name in ipairs(redis.call('SMEMBERS', key('aside'))) do
  local full = queue .. ':aside:' .. name
  if redis.call('EXISTS', full) == 1 then
    aside[#aside + 1] = full
  else
    redis.call('SREM', key('aside'), name)
  end
end
-- Among the first hundred: whether there are any is the question.
local unknown = 0
for _, id in ipairs(redis.call('ZRANGE', key('delayed'), 0, 99)) do
  unknown = unknown + redis.call('HEXISTS', task_key(id), 'unknown_since_ms')
end
return {now_ms(), redis.call('ZCARD', key('ready')), redis.call('ZCARD', key('delayed')),
  redis.call('ZCARD', key('leased')), redis.call('ZCARD', key('dead')),
  redis.call('ZCARD', key('done')), tonumber(redis.call('GET', key('paused')) or -1) or 0,
  oldest, redis.call('HGETALL', key('counts')), aside, unknown}
