-- live: who may act on an account's server.
--
-- KEYS[1] live (string: the owner)  KEYS[2] liveAsk (string: who waits for it)
-- ARGV: owner · ms for which it is taken or kept, 0 = given back
-- Returns "OURS", "ASKED" (ours, and another one waits), "HELD" (another's; it is asked for it).
--
-- Atomic, because only the owner may keep it or give it back.
local owner, ms = ARGV[1], tonumber(ARGV[2])
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= owner then
  if ms > 0 then redis.call('SET', KEYS[2], owner, 'PX', 2000) end
  return 'HELD'
end
if ms == 0 then
  redis.call('DEL', KEYS[1])
  return 'OURS'
end
redis.call('SET', KEYS[1], owner, 'PX', ms)
local asks = redis.call('GET', KEYS[2])
if asks and asks == owner then redis.call('DEL', KEYS[2]); asks = nil end
if asks then return 'ASKED' end
return 'OURS'
