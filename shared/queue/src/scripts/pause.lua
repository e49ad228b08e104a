-- No worker takes a job while this key exists; it tells since when.
redis.call('SET', key('paused'), now_ms(), 'NX')
return 'paused'
