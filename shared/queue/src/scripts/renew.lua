-- The heartbeat of a worker: renews its leases and says that it lives.
-- ARGV: worker, lease_ms, stale_ms, up_ms, host, pid, queues, slots, draining,
--       jobs (JSON), serves (JSON), then an id and an epoch for each lease
-- Returns for each lease: 0 lost, 1 renewed, 2 renewed and to be cancelled.
local worker, lease, stale = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()

redis.call('ZADD', key('workers'), now, worker)
redis.call('HSET', key('worker:' .. worker), 'host', ARGV[5], 'pid', ARGV[6],
  'queues', ARGV[7], 'slots', ARGV[8], 'draining', ARGV[9], 'jobs', ARGV[10], 'serves', ARGV[11],
  'started_ms', now - tonumber(ARGV[4]), 'seen_ms', now)
redis.call('PEXPIRE', key('worker:' .. worker), stale)
-- Beyond now: from before the clock was set back; the living come again.
redis.call('ZREMRANGEBYSCORE', key('workers'), now + 1, '+inf')
redis.call('ZREMRANGEBYSCORE', key('workers'), '-inf', now - stale)

local answers = {}
for i = 12, #ARGV, 2 do
  local id, epoch = ARGV[i], ARGV[i + 1]
  if holds_lease(id, worker, epoch, now) then
    redis.call('ZADD', key('leased'), now + lease, id)
    answers[#answers + 1] = redis.call('HEXISTS', task_key(id), 'cancel') + 1
  else
    answers[#answers + 1] = 0
  end
end
return answers
