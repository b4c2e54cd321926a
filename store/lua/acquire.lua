-- acquire: take an account's lease when it is free, expired, or ours already.
--
-- KEYS[1] lease (hash)  KEYS[2] leases of the shard (zset: account -> expiry in ms, 0 = free)
-- ARGV account · owner · ttl in ms
-- Returns {"OK", fence} · {"HELD"} · {"NONE"} no such account.
--
-- Atomic, because between looking and taking another process could take it. The fence grows with
-- every taking, so whoever held it before can write nothing more, however late it wakes. It is
-- at least the time: where Redis came back with an older one, none is given a second time.
local exp = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not exp then return {'NONE'} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local owner = redis.call('HGET', KEYS[1], 'owner')
if tonumber(exp) > now and owner and owner ~= ARGV[2] then return {'HELD'} end
local last = tonumber(redis.call('HGET', KEYS[1], 'fence') or '0') or 0
local fence = string.format('%.0f', math.max(last + 1, now))
redis.call('HSET', KEYS[1], 'fence', fence, 'owner', ARGV[2])
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[1])
return {'OK', fence}
