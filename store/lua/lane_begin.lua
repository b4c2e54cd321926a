-- A task begins: its lane takes a slot.
-- ARGV  slots, lane, lane it may have left for ('' = none), carrier, lease in ms,
--       process, how many pointers to answer.
-- Status 'run': says lane, probe 0|1, ms to wait, records 0|1, then pointers.
--        'stale': this task carries nothing. 'held': the lane waits for a slot or the
--        gate, the task is over. 'early': says ms until due.
-- Atomic because two tasks may claim one lane.
local lane, carrier = ARGV[2], ARGV[4]
if not owns(lane, carrier) then
  lane = ARGV[3]
  if lane == '' or not owns(lane, carrier) then return reply('stale') end
end
local probe = field('probing') == lane
local held = not probe and gate() ~= 'open'
if not redis.call('ZSCORE', B .. 'run', lane) then
  local due = tonumber(redis.call('ZSCORE', B .. 'wait', lane) or '0')
  if due > now then return reply('early', {int(due - now)}) end
  held = held or redis.call('ZCARD', B .. 'run') >= cap()
end
if held then
  stop(lane)
  toReady(lane, true)
  release()
  return reply('held')
end
redis.call('ZREM', B .. 'wait', lane)
redis.call('HDEL', B .. 'alone', lane)
redis.call('ZADD', B .. 'run', int(now + tonumber(ARGV[5])), lane)
redis.call('HSET', B .. 'own', lane, ARGV[6])
local extra = {lane, probe and 1 or 0, pace(), num('recs') > 0 and 1 or 0}
for _, p in ipairs(redis.call('LRANGE', list(lane), 0, probe and 0 or tonumber(ARGV[7]) - 1)) do extra[#extra + 1] = p end
return reply('run', extra)
