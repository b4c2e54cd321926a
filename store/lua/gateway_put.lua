-- Writes or removes a gateway, if it is still what was read.
-- KEYS: 1 gateways, 2 their use, 3 that this one was deleted
-- ARGV: 1 id, 2 the record it was read as ("": none), 3 the record it becomes ("": removed)
-- Returns 1, or 0 where somebody else was quicker. Atomic, so that two changes do not
-- overwrite each other, and a removed gateway keeps no counters.
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  redis.call('DEL', KEYS[3])
  return 1
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], 'n:' .. ARGV[1], 'at:' .. ARGV[1], 'e:' .. ARGV[1], 'eAt:' .. ARGV[1])
redis.call('SET', KEYS[3], 1, 'EX', 86400)
return 1
