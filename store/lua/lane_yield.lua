-- A task has had its turn: the lane goes to the tail of ready (front: to its front, for
-- a task that was cut short). With keep, and nobody else waiting, it stays where it is.
-- ARGV  slots, lane, carrier, 'keep' | 'tail' | 'front', lease in ms, how many pointers.
-- Status 'next' as in lane_done.lua, 'yielded', or 'stale'.
-- Atomic because a lane between two states is a lane nobody looks after.
local lane, carrier = ARGV[2], ARGV[3]
if not owns(lane, carrier) then return reply('stale') end
if ARGV[4] == 'keep' and gate() == 'open' and redis.call('EXISTS', B .. 'ready', B .. 'readyLate') == 0 then
  redis.call('ZADD', B .. 'run', int(now + tonumber(ARGV[5])), lane)
  local extra = {pace(), num('recs') > 0 and 1 or 0}
  for _, p in ipairs(redis.call('LRANGE', list(lane), 0, tonumber(ARGV[6]) - 1)) do extra[#extra + 1] = p end
  return reply('next', extra)
end
stop(lane)
toReady(lane, ARGV[4] == 'front')
release()
return reply('yielded')
