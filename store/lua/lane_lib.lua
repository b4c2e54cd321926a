-- Stands in front of every lane_*.lua script.
-- KEYS[1]  the route's key prefix `{r:<id>}:`. Every key touched is that prefix and a
--          suffix of the table in lanekeys.go, so all are in one slot.
-- ARGV[1]  the route's slots; 0 while it is switched off.
-- Every script answers {status, announcements waiting, wake time in ms or 0, number of
-- released lanes, then per released lane: lane, carrier, head pointer, probe 0|1,
-- then what the script itself says}.
local B = KEYS[1]
local G = B .. 'gate'
local tv = redis.call('TIME')
local now = tonumber(tv[1]) * 1000 + math.floor(tonumber(tv[2]) / 1000)
local slots = tonumber(ARGV[1])
local said, wake, rel = 0, 0, {}

local function int(n) return string.format('%.0f', n) end
local function field(f) return redis.call('HGET', G, f) or '' end
local function num(f) return tonumber(field(f)) or 0 end
local function list(lane) return B .. 'l:' .. lane end
local function isLate(lane) return string.sub(lane, 1, 2) == 'd:' end
local function ready(lane) return isLate(lane) and B .. 'readyLate' or B .. 'ready' end
local function owns(lane, carrier) return redis.call('HGET', B .. 'car', lane) == carrier end

local function reply(status, extra)
  local r = {status, said, int(wake), #rel / 4}
  for i = 1, #rel do r[#r + 1] = rel[i] end
  for i = 1, #(extra or {}) do r[#r + 1] = extra[i] end
  return r
end

-- say queues an announcement of the route's health; its number is the version of the
-- health record, from which the event's id is made.
local function say(...)
  local v = redis.call('HINCRBY', G, 'hv', 1)
  redis.call('RPUSH', B .. 'say', int(v) .. '\t' .. table.concat({...}, '\t'))
  said = said + 1
end

local function cap()
  local c = num('cap')
  if c < 1 or c > slots then return slots end
  return c
end

-- gate: 'open'; 'probe' when a single delivery may go out and see; else 'shut'.
local function gate()
  if slots < 1 then return 'shut' end
  local v = redis.call('HMGET', G, 'paused', 'brk', 'notBefore', 'probing', 'probeAt')
  local paused, brk = v[1] or '', v[2] or ''
  if paused == 'gone' or paused == 'api' then return 'shut' end
  if (tonumber(v[3] or '0') or 0) > now then return 'shut' end
  if paused == '' and brk == '' then return 'open' end
  if (v[4] or '') ~= '' then return 'shut' end
  local at = tonumber(v[5] or '0') or 0
  if at > 0 and at <= now then return 'probe' end
  return 'shut'
end

-- pop: the next lane in turn, three of ready to one of readyLate.
local function pop()
  while true do
    local first, second = 'ready', 'readyLate'
    if redis.call('HINCRBY', G, 'turn', 1) % 4 == 0 then
      first = 'readyLate' -- one by one: miniredis' Lua gets `a, b = b, a` wrong
      second = 'ready'
    end
    local lane = redis.call('LPOP', B .. first) or redis.call('LPOP', B .. second)
    if not lane then return nil end
    if redis.call('EXISTS', list(lane)) == 1 and redis.call('HEXISTS', B .. 'car', lane) == 0 then return lane end
  end
end

local function newCarrier(lane, pointer)
  local c = string.match(pointer, '^%S+') .. '/' .. int(redis.call('HINCRBY', G, 'gen', 1))
  redis.call('HSET', B .. 'car', lane, c)
  return c
end

-- start gives a lane a carrier of a new generation and a slot for the 5 s in which its
-- task must begin.
local function start(lane, probe)
  local head = redis.call('LINDEX', list(lane), 0)
  local c = newCarrier(lane, head)
  redis.call('ZADD', B .. 'run', int(now + 5000), lane)
  local n = #rel
  rel[n + 1], rel[n + 2], rel[n + 3], rel[n + 4] = lane, c, head, probe
end

-- release starts lanes while the gate is open and slots are free; behind a gate that
-- only wants to be probed, one.
local function release()
  if redis.call('EXISTS', B .. 'ready', B .. 'readyLate', B .. 'wait') == 0 then return end
  local g = gate()
  if g == 'open' then
    local free = cap() - redis.call('ZCARD', B .. 'run')
    while free > 0 and redis.call('EXISTS', B .. 'ready', B .. 'readyLate') > 0 do
      local lane = pop()
      if not lane then return end
      start(lane, 0)
      free = free - 1
    end
  elseif g == 'probe' then
    -- The next lane in turn: one that waits between two tries rather than the last again.
    local lane = pop()
    if not lane or lane == field('probed') then
      local waiting = redis.call('ZRANGE', B .. 'wait', 0, 0)[1]
      if not lane and not waiting then return end
      if waiting then
        if lane then redis.call('RPUSH', ready(lane), lane) end
        lane = waiting
        redis.call('ZREM', B .. 'wait', lane)
        redis.call('HDEL', B .. 'alone', lane)
      end
    end
    redis.call('HSET', G, 'probing', lane, 'probed', lane)
    start(lane, 1)
  end
end

-- stop takes carrier and slot from a lane; it is in no state afterwards.
local function stop(lane)
  redis.call('HDEL', B .. 'car', lane)
  redis.call('HDEL', B .. 'own', lane)
  redis.call('HDEL', B .. 'alone', lane)
  redis.call('ZREM', B .. 'run', lane)
  redis.call('ZREM', B .. 'wait', lane)
  if field('probing') == lane then redis.call('HDEL', G, 'probing') end
end

local function toReady(lane, front)
  if redis.call('EXISTS', list(lane)) == 0 then return end
  redis.call(front and 'LPUSH' or 'RPUSH', ready(lane), lane)
end

local function remove(lane, pointer)
  if redis.call('LINDEX', list(lane), 0) == pointer then
    redis.call('LPOP', list(lane))
    return 1
  end
  return redis.call('LREM', list(lane), 1, pointer)
end

-- pace: how many ms the next delivery waits because of slow start: the n-th may go in
-- the second log2(n+1) after the gate opened, so 1, 2, 4, 8 … a second until 1,024.
local function pace()
  local at = num('ssAt')
  if at == 0 then return 0 end
  local gone = now - at
  if gone >= 10000 or gone < 0 then
    redis.call('HDEL', G, 'ssAt', 'ssN')
    return 0
  end
  local k = math.floor(gone / 1000)
  local n = math.max(num('ssN'), 2 ^ k - 1 + math.floor((gone % 1000) / 1000 * 2 ^ k))
  redis.call('HSET', G, 'ssN', int(n + 1))
  k = 0
  while 2 ^ (k + 1) <= n + 1 do k = k + 1 end
  return math.max(0, math.floor(at + 1000 * k + (n + 1 - 2 ^ k) * 1000 / 2 ^ k - now))
end

local function openGate()
  redis.call('HDEL', G, 'brk', 'probeAt', 'probes', 'probeOk', 'probing', 'rowE', 'rowES', 'rowSet', 'wAt', 'wA', 'wB', 'probed')
  redis.call('HSET', G, 'ssAt', int(now), 'ssN', '0')
end

local function resumed(mode)
  say('resumed', mode, int(num('pending')))
end

-- changed: another target, another secret or a switch-on is a new beginning, save for
-- a pause by a person.
local function changed(version)
  local off = field('off') == '1'
  if slots < 1 then
    if not off then redis.call('HSET', G, 'off', '1') end
    return
  end
  local old = field('ver')
  if old == version and not off then return end
  redis.call('HSET', G, 'ver', version)
  redis.call('HDEL', G, 'off')
  if old == '' then return end
  local paused, shut = field('paused'), field('brk') ~= '' or num('notBefore') > now
  redis.call('HDEL', G, 'streak', 'streakAt', 'cap', 'okrow', 'notBefore')
  if paused ~= '' and paused ~= 'api' then
    redis.call('HDEL', G, 'paused')
    resumed('deliver')
    shut = true
  end
  if shut then openGate() end
end
