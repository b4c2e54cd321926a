-- A delivery succeeded: the pointer goes, the lane goes on.
-- ARGV  slots, lane, carrier, pointer, lease in ms, how many pointers to answer, log
--       entry, length of the log, delivery with a record ('' = none), paired 0|1
--       (the head stays, and so does the slot).
-- Status 'next': says ms to wait, records 0|1, then pointers. 'empty', 'held': the task
--        is over. 'stale'.
-- Atomic because the pointer must go with the proof of its delivery.
local lane, carrier = ARGV[2], ARGV[3]
if not owns(lane, carrier) then return reply('stale') end
local removed = remove(lane, ARGV[4])
redis.call('XADD', B .. 'log', 'MAXLEN', '~', ARGV[8], '*', 'a', ARGV[7])
local s = redis.call('HMGET', G, 'streak', 'brk', 'paused', 'cap', 'ssAt', 'wAt', 'probing', 'notBefore', 'rowE', 'rowES', 'errAt', 'recs', 'pending', 'delivered')
redis.call('HSET', G, 'lastOk', int(now), 'pending', int((tonumber(s[13] or '0') or 0) - removed),
  'delivered', int((tonumber(s[14] or '0') or 0) + removed))
if removed == 1 and ARGV[9] ~= '' and redis.call('EXISTS', B .. 'd:' .. ARGV[9]) == 1 then
  redis.call('HSET', B .. 'd:' .. ARGV[9], 'state', 'delivered', 'ended', int(now))
  redis.call('EXPIRE', B .. 'd:' .. ARGV[9], 86400)
  redis.call('EXPIRE', B .. 'b:' .. ARGV[9], 86400)
  redis.call('HINCRBY', G, 'recs', -1)
  if isLate(lane) then redis.call('HINCRBY', G, 'late', -1) end
end

local calm = slots > 0
for i = 1, 11 do if s[i] and s[i] ~= '' then calm = false end end
if not calm then
  local streak = tonumber(s[1] or '0') or 0
  if streak >= 4 then say('recovered', int(streak), int(math.floor((now - num('streakAt')) / 1000))) end
  redis.call('HDEL', G, 'streak', 'streakAt', 'rowE', 'rowES', 'rowSet', 'errAt', 'errMsg', 'errCode', 'errEvent')
  if s[6] then
    if tonumber(s[6]) + 60000 < now then redis.call('HDEL', G, 'wAt', 'wA', 'wB') else redis.call('HINCRBY', G, 'wA', 1) end
  end
  if s[8] and tonumber(s[8]) <= now then redis.call('HDEL', G, 'notBefore') end
  local c = tonumber(s[4] or '0') or 0
  if c >= slots then
    redis.call('HDEL', G, 'cap', 'okrow')
  elseif c > 0 and redis.call('HINCRBY', G, 'okrow', 1) >= 10 then
    redis.call('HSET', G, 'cap', int(c + 1), 'okrow', '0')
  end
  if s[7] == lane then
    redis.call('HDEL', G, 'probing')
    local paused = s[3] or ''
    if paused == 'failures' or paused == 'misconfigured' then
      redis.call('HDEL', G, 'paused')
      resumed('deliver')
      if not s[2] then openGate() end
    end
    if s[2] then
      if redis.call('HINCRBY', G, 'probeOk', 1) >= 2 then
        openGate()
      else
        redis.call('HSET', G, 'brk', 'half_open', 'probeAt', int(now))
      end
    end
  end
end
if ARGV[10] == '1' then return reply('next', {0, 1}) end

if redis.call('EXISTS', list(lane)) == 0 then
  stop(lane)
  release()
  return reply('empty')
end
if not calm and gate() ~= 'open' then
  stop(lane)
  toReady(lane, s[7] ~= lane)
  release()
  return reply('held')
end
redis.call('ZADD', B .. 'run', int(now + tonumber(ARGV[5])), lane)
local extra = {calm and 0 or pace(), (tonumber(s[12] or '0') or 0) > 0 and 1 or 0}
local want = tonumber(ARGV[6])
if want > 0 then
  for _, p in ipairs(redis.call('LRANGE', list(lane), 0, want - 1)) do extra[#extra + 1] = p end
end
return reply('next', extra)
