-- enlist: accounts of one shard take their places among leases and proofs of life again.
--
-- KEYS[1] registry (hash)  KEYS[2] leases (zset)  KEYS[3] alive (zset)
-- ARGV for each account: id · "1": it is to be watched
-- Returns how many places were missing.
--
-- Atomic, because an account that is deleted meanwhile must not come back.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local missing = 0
for i = 1, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    missing = missing + redis.call('ZADD', KEYS[2], 'NX', 0, ARGV[i])
    if ARGV[i + 1] == '1' then missing = missing + redis.call('ZADD', KEYS[3], 'NX', -now, ARGV[i]) end
  end
end
return {missing}
