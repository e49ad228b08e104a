-- Stands before every script. KEYS[1] is the queue's hash tag, e.g. {backups}:
-- every key of a queue begins with it, so that all of them live in one slot.
local queue = KEYS[1]

-- A key that holds something of another kind (a slip of redis-cli, another program)
-- would make every script fail for ever: it is put aside, and `stats` tells of it.
local kinds = {
  ready = 'zset', delayed = 'zset', leased = 'zset', dead = 'zset', done = 'zset',
  workers = 'zset', counts = 'hash', task = 'hash', worker = 'hash', claim = 'hash',
  uniq = 'string', seq = 'string', clock = 'string', paused = 'string', aside = 'set',
}
local looked_at = {}
local function key(name)
  local full = queue .. ':' .. name
  if not looked_at[full] then
    looked_at[full] = true
    local sort = string.match(name, '^[^:]+')
    local kind = redis.call('TYPE', full).ok
    local wrong = kind ~= 'none' and kind ~= kinds[sort]
    -- Of these two every script would say that they are no numbers.
    if not wrong and (sort == 'seq' or sort == 'clock') and kind == 'string' then
      wrong = not string.match(redis.call('GET', full), '^%d+$')
    end
    if wrong then
      -- Noted first: with Redis's memory full that fails, and nothing is moved.
      if sort ~= 'aside' then redis.call('SADD', key('aside'), name) end
      redis.call('RENAME', full, queue .. ':aside:' .. name)
      if sort == 'aside' then redis.call('SADD', full, name) end
    end
  end
  return full
end
local function task_key(id) return key('task:' .. id) end
local function unique_key(name) return key('uniq:' .. name) end

-- Redis's clock is the only one: workers may be minutes apart.
local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function next_sequence() return redis.call('INCR', key('seq')) end
-- Counts are for the eye: one that is no number must not keep a job from ending.
local function count(what) redis.pcall('HINCRBY', key('counts'), what, 1) end
local function wake() redis.call('PUBLISH', key('wake'), '') end

-- Strict priority, first in first out within one: a priority's jobs have a band
-- of 2^40 sequence numbers to themselves. 11 * 2^40 is far below the 2^53 up to
-- which a score is exact.
local function ready_score(priority, sequence)
  return (10 - priority) * 1099511627776 + sequence
end

local function make_ready(id, priority, sequence, now)
  redis.call('ZADD', key('ready'), ready_score(priority, sequence), id)
  redis.call('HSET', task_key(id), 'state', 'ready', 'seq', sequence, 'ready_ms', now)
end

-- delay_ms is kept: it is the most by which the due time may lie ahead, should
-- the clock step back.
local function make_delayed(id, delay, now)
  redis.call('ZADD', key('delayed'), now + delay, id)
  redis.call('HSET', task_key(id), 'state', 'delayed', 'delay_ms', delay)
end

local function place(id, priority, delay, now)
  if delay > 0 then
    make_delayed(id, delay, now)
  else
    make_ready(id, priority, next_sequence(), now)
    wake()
  end
end

local function add_job(job, now)
  redis.call('HSET', task_key(job.id), 'payload', job.payload, 'priority', job.priority,
    'attempts', 0, 'max_attempts', job.max_attempts, 'epoch', 0, 'enqueued_ms', now)
  if job.key ~= '' then
    redis.call('HSET', task_key(job.id), 'key', job.key, 'keep_key_ms', job.keep_key)
    redis.call('SET', unique_key(job.key), job.id)
  end
  count('enqueued')
  place(job.id, tonumber(job.priority), tonumber(job.delay), now)
end

local function trim(set, cap)
  local over = redis.call('ZCARD', key(set)) - cap
  if over <= 0 then return end
  local popped = redis.call('ZPOPMIN', key(set), math.min(over, 100))
  for i = 1, #popped, 2 do redis.call('DEL', task_key(popped[i])) end
end

-- The one way a job ends. `state` is done, cancelled or dead. Its unique key is
-- released here, in the same breath, and a job that was asked for while this one
-- ran takes its place.
local function end_job(id, state, error, now, done_cap, dead_cap)
  redis.call('ZREM', key('ready'), id)
  redis.call('ZREM', key('delayed'), id)
  redis.call('ZREM', key('leased'), id)
  redis.call('HSET', task_key(id), 'state', state, 'ended_ms', now)
  if error ~= '' then redis.call('HSET', task_key(id), 'error', error) end
  local set = 'done'
  if state == 'dead' then set = 'dead' end
  redis.call('ZADD', key(set), now, id)
  count(state)

  local task = redis.call('HMGET', task_key(id), 'key', 'keep_key_ms', 'again')
  if task[1] and redis.call('GET', unique_key(task[1])) == id then
    if tonumber(task[2]) > 0 then
      redis.call('PEXPIRE', unique_key(task[1]), task[2])
    else
      redis.call('DEL', unique_key(task[1]))
    end
  end
  if task[3] then
    redis.call('HDEL', task_key(id), 'again')
    add_job(cjson.decode(task[3]), now)
  end
  if set == 'dead' then trim('dead', dead_cap) else trim('done', done_cap) end
end

-- Whether this worker holds this very lease, and holds it still. `epoch` counts
-- the claims of a job and never goes back, unlike its attempts: an order from an
-- earlier claim by the same worker does not fit a later one.
local function holds_lease(id, worker, epoch, now)
  local task = redis.call('HMGET', task_key(id), 'state', 'worker', 'epoch')
  if task[1] ~= 'leased' or task[2] ~= worker or task[3] ~= epoch then return false end
  local expiry = redis.call('ZSCORE', key('leased'), id)
  return expiry and tonumber(expiry) >= now
end

