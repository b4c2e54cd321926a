-- Gives lanes whose carrier is lost a new one: running past their lease or in a process
-- that is gone, or waiting 5 s past due. Also the means to start what an opened gate
-- lets through.
-- ARGV  slots, version of the target, then 'late' (what is overdue), 'none' (only
--       release) or 'live' followed by the live processes.
-- Status 'ok'; says lanes swept, work left 0|1.
-- Atomic because a lane must not be taken from a carrier that is just beginning.
changed(ARGV[2])
local swept, seen = 0, {}
local function sweep(lane)
  if seen[lane] then return end
  seen[lane] = true
  stop(lane)
  toReady(lane, true)
  swept = swept + 1
end
if ARGV[3] ~= 'none' then
  for _, lane in ipairs(redis.call('ZRANGEBYSCORE', B .. 'run', '-inf', int(now))) do sweep(lane) end
  for _, lane in ipairs(redis.call('ZRANGEBYSCORE', B .. 'wait', '-inf', int(now - 5000))) do sweep(lane) end
  if ARGV[3] == 'live' then
    local live = {}
    for i = 4, #ARGV do live[ARGV[i]] = true end
    local own = redis.call('HGETALL', B .. 'own')
    for i = 1, #own, 2 do
      if not live[own[i + 1]] then sweep(own[i]) end
    end
  end
end
local probing = field('probing')
if probing ~= '' and not redis.call('ZSCORE', B .. 'run', probing) then redis.call('HDEL', G, 'probing') end
release()
local at, nb = num('probeAt'), num('notBefore')
if nb > now then wake = nb elseif at > now then wake = at end
local left = redis.call('EXISTS', B .. 'ready', B .. 'readyLate', B .. 'run', B .. 'wait', B .. 'say') > 0
return reply('ok', {swept, (left or num('appended') > now - 60000) and 1 or 0})
