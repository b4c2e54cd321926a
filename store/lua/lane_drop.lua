-- Removes lanes of a route that is no more, a slice at a time.
-- ARGV  0, how many lanes at most.
-- Status 'more' or 'end'; says how many pointers went, health version.
-- Atomic because a lane goes with its place in the books.
local left, gone = tonumber(ARGV[2]), 0
local function drop(lane)
  gone = gone + redis.call('LLEN', list(lane))
  redis.call('UNLINK', list(lane))
  if isLate(lane) then redis.call('UNLINK', B .. lane, B .. 'b:' .. string.sub(lane, 3)) end
  left = left - 1
end
while left > 0 do
  local lane = redis.call('LPOP', B .. 'ready') or redis.call('LPOP', B .. 'readyLate') or
    redis.call('ZRANGE', B .. 'run', 0, 0)[1] or redis.call('ZRANGE', B .. 'wait', 0, 0)[1]
  if not lane then break end
  stop(lane)
  drop(lane)
end
if gone > 0 then redis.call('HINCRBY', G, 'pending', -gone) end
if redis.call('EXISTS', B .. 'ready', B .. 'readyLate', B .. 'run', B .. 'wait') > 0 then
  return reply('more', {gone, num('hv')})
end
local hv = redis.call('HINCRBY', G, 'hv', 1)
redis.call('HSET', G, 'drop', '1', 'pending', '0', 'recs', '0', 'late', '0')
redis.call('HDEL', G, 'paused', 'brk', 'notBefore', 'probing', 'streak', 'streakAt', 'ver')
redis.call('UNLINK', B .. 'car', B .. 'own', B .. 'alone')
for _, k in ipairs({'gate', 'top', 'log', 'dead'}) do redis.call('EXPIRE', B .. k, 604800) end
return reply('end', {gone, int(hv)})
