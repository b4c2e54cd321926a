-- intent: what we do on a server ourselves, from before the command until its effect was seen.
--
-- KEYS[1] intents (hash: id -> "ms JSON")  KEYS[2] state (hash)
-- ARGV: "begin" or "end" · id · JSON · ms after which one is over · how many there may be
-- Returns "OK", "FULL" (begin: nothing was changed), "LOST" (begin: the account has no state),
--   "GONE" (end: consumed or over).
--
-- Atomic, because an end that came after the effect was seen must not bring the intent back.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local function began(value) return tonumber(string.match(value, '^%d+')) or 0 end

if ARGV[1] == 'end' then
  local old = redis.call('HGET', KEYS[1], ARGV[2])
  if not old then return 'GONE' end
  redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f', began(old)) .. ' ' .. ARGV[3])
  return 'OK'
end

if redis.call('HEXISTS', KEYS[2], 'epoch') == 0 then return 'LOST' end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if began(all[i + 1]) <= now - tonumber(ARGV[4]) then redis.call('HDEL', KEYS[1], all[i]) end
  end
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then return 'FULL' end
end
redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f', now) .. ' ' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 'OK'
