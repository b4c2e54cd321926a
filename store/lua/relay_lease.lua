-- Takes, renews, moves on or gives up a relay's lease.
-- KEYS[1]  hash: owner, fence, until (ms), pos
-- ARGV     'take' | 'keep' | 'drop', owner, ttl in ms, fence (keep, drop), position to
--          store ('' = unchanged)
-- Answers {1, fence, position}, or {0} when it is another's.
-- Atomic because a position must not be written by a relay that has been replaced.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local h = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'until', 'pos')
local owner, fence, till, pos = h[1] or '', tonumber(h[2] or '0'), tonumber(h[3] or '0'), h[4] or ''
if ARGV[1] == 'take' then
  if owner ~= '' and owner ~= ARGV[2] and till > now then return {0} end
  fence = fence + 1
elseif owner ~= ARGV[2] or fence ~= tonumber(ARGV[4]) then
  return {0}
end
if ARGV[5] ~= '' then pos = ARGV[5] end
local hold = ARGV[1] ~= 'drop'
redis.call('HSET', KEYS[1], 'owner', hold and ARGV[2] or '', 'fence', string.format('%.0f', fence),
  'until', string.format('%.0f', hold and now + tonumber(ARGV[3]) or 0), 'pos', pos)
return {1, fence, pos}
