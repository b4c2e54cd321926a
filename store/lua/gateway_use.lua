-- Notes the end of a transaction with a gateway.
-- KEYS: 1 gateways, 2 their use
-- ARGV: 1 id, 2 what went wrong ("": it was accepted)
-- Returns 1, or 0 where there is no such gateway. Atomic, so that a gateway that is removed
-- meanwhile leaves no counters behind. A repeat counts twice: this is for people to look at.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
redis.call('HSET', KEYS[2], 'at:' .. ARGV[1], now)
if ARGV[2] == '' then
  redis.call('HINCRBY', KEYS[2], 'n:' .. ARGV[1], 1)
  redis.call('HDEL', KEYS[2], 'e:' .. ARGV[1], 'eAt:' .. ARGV[1])
else
  redis.call('HSET', KEYS[2], 'e:' .. ARGV[1], ARGV[2], 'eAt:' .. ARGV[1], now)
end
return 1
