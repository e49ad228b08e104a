-- Takes back a claim whose fate is unknown, at the end of a worker: if it was
-- carried out, the job is given back without an attempt; if it is still under way,
-- it will find its token used.
-- ARGV: worker, token
local worker, token = ARGV[1], tonumber(ARGV[2])
local now = now_ms()
local claim_key = key('claim:' .. worker)
local last = redis.call('HMGET', claim_key, 'token', 'id', 'epoch')
local result = 'void'
if last[1] and tonumber(last[1]) == token and last[2] ~= ''
  and holds_lease(last[2], worker, last[3], now) then
  local id = last[2]
  redis.call('ZREM', key('leased'), id)
  redis.call('HINCRBY', task_key(id), 'attempts', -1)
  local task = redis.call('HMGET', task_key(id), 'priority', 'seq')
  make_ready(id, tonumber(task[1]), task[2], now)
  count('given_back')
  wake()
  result = 'given_back'
end
redis.call('HSET', claim_key, 'token', token, 'id', '', 'epoch', 0)
redis.call('PEXPIRE', claim_key, 3600000)
return result
