-- The paired try behind a failing head has ended; the head leaves, or the breaker opens.
-- ARGV  slots, failure of the head (JSON) with, where the paired entry failed too,
--       pair = {dlv, rec, log, mode} and msg, code, class, scope of that attempt,
--       frozen body of the paired entry.
-- Status as lane_fail.lua. Atomic for the same reason.
local lane = x.lane
if not owns(lane, x.car) then return reply('stale') end
local probing = field('probing') == lane
if x.pair then
  if not counted(x.pair.dlv, x.pair.rec) then
    redis.call('XADD', B .. 'log', 'MAXLEN', '~', int(x.logMax), '*', 'a', x.pair.log)
    record(x.pair.dlv, x.pair.rec, ARGV[3])
    unwell(lane)
  end
  if probing then
    probed()
    return hold(lane, false)
  end
  if x.open and field('brk') == '' and field('paused') == '' then openBreaker() end
  if gate() ~= 'open' then return hold(lane, true) end
end
return leave(lane)
