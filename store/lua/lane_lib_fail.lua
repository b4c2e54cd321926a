-- Stands behind lane_lib.lua in the scripts that record a failed attempt.
-- ARGV[2] is the attempt as JSON; its fields stand at store.FailedDelivery.
-- ARGV[3] is the frozen body, sent until the delivery has one.
local x = cjson.decode(ARGV[2])

-- openBreaker: everything is held, and asked for again by probes.
local function openBreaker()
  redis.call('HSET', G, 'brk', 'open', 'probes', '0', 'probeAt', int(now + 10000 * (1 + x.jitter)))
  redis.call('HDEL', G, 'ssAt', 'ssN', 'probeOk', 'probing')
  wake = num('probeAt')
end

-- record keeps what is known of a delivery from its first failure on.
local function record(delivery, fields, body)
  local key = B .. 'd:' .. delivery
  if redis.call('EXISTS', key) == 0 then redis.call('HINCRBY', G, 'recs', 1) end
  local set = {'failedAt', int(now)}
  for k, v in pairs(fields) do set[#set + 1] = k; set[#set + 1] = v end
  redis.call('HSET', key, unpack(set))
  redis.call('EXPIRE', key, x.keep)
  if body and body ~= '' then redis.call('SET', B .. 'b:' .. delivery, body, 'NX') end
  if redis.call('EXISTS', B .. 'b:' .. delivery) == 1 then redis.call('EXPIRE', B .. 'b:' .. delivery, x.keep) end
end

-- counted says whether this attempt was recorded before: the call is a repeat, its answer
-- was lost, and the route must not suffer for it twice.
local function counted(delivery, fields)
  return redis.call('HGET', B .. 'd:' .. delivery, 'attempts') == fields.attempts
end

local function pause(reason, failures)
  redis.call('HSET', G, 'paused', reason, 'probeAt', (reason == 'gone' or not x.autoResume) and '0' or int(now + 3600000))
  wake = num('probeAt')
  if x.say then say('paused', reason, int(failures)) end
end

-- window counts the attempts of the running minute; true when 70 % of at least ten
-- were the endpoint's failures. It begins with a failure, not with the clock.
local function window()
  local at = num('wAt')
  if at == 0 or at + 60000 < now then redis.call('HSET', G, 'wAt', int(now), 'wA', '0', 'wB', '0') end
  local a, b = redis.call('HINCRBY', G, 'wA', 1), redis.call('HINCRBY', G, 'wB', 1)
  return a >= 10 and b * 10 >= a * 7
end

-- variety counts the deliveries in a row that differ in lane or event name, up to three.
local function variety(lane)
  local set, n, me = field('rowSet'), 0, lane .. ' ' .. x.event
  local known = false
  for e in string.gmatch(set, '[^\n]+') do
    n = n + 1
    if e == me then known = true end
  end
  if not known and n < 3 then
    n = n + 1
    redis.call('HSET', G, 'rowSet', set .. me .. '\n')
  end
  return n
end

-- unwell books a failed attempt against the route: streak, cap, breaker, announcements.
-- It answers whether the breaker has opened.
local function unwell(lane)
  redis.call('HSET', G, 'lastFail', int(now), 'errAt', int(now), 'errMsg', x.msg, 'errCode', int(x.code), 'errEvent', x.event, 'okrow', '0')
  redis.call('HINCRBY', G, 'failed', 1)
  if x.halve then redis.call('HSET', G, 'cap', int(math.max(1, math.floor(cap() / 2)))) end
  if x.retryAfter > 0 then
    wake = math.max(num('notBefore'), now + x.retryAfter)
    redis.call('HSET', G, 'notBefore', int(wake))
  end
  if x.class == 'auth' then
    local n = redis.call('HINCRBY', G, 'authN', 1)
    if num('authAt') + 3600000 <= now then
      if x.say then say('auth', int(x.code), int(n)) end
      redis.call('HSET', G, 'authAt', int(now), 'authN', '0')
    end
  end
  local paused = field('paused')
  if x.counts then
    local n = redis.call('HINCRBY', G, 'streak', 1)
    if n == 1 then redis.call('HSET', G, 'streakAt', int(now)) end
    if x.say and (n == 3 or n == 50 or n == 70 or n == 90) then say('failing', int(n), int(x.code), x.msg) end
    if x.pauseAfter > 0 and n >= x.pauseAfter and paused == '' then pause('failures', n) end
  end
  if x.class == 'gone' and paused ~= 'gone' then pause('gone', num('streak')) end
  if x.class == 'blocked' and paused ~= 'misconfigured' and paused ~= 'gone' then pause('misconfigured', num('streak')) end

  if field('brk') ~= '' or field('paused') ~= '' or not x.counts then return false end
  local open = false
  if x.scope == 'E' then
    open = redis.call('HINCRBY', G, 'rowE', 1) >= 5
  else
    redis.call('HDEL', G, 'rowE')
  end
  if x.scope == 'E' or x.class == 'http_5xx' then
    local row, full = redis.call('HINCRBY', G, 'rowES', 1), window()
    open = open or (variety(lane) >= 3 and (row >= 5 or full))
  else
    redis.call('HDEL', G, 'rowES', 'rowSet')
    if num('wAt') > 0 then redis.call('HINCRBY', G, 'wA', 1) end
  end
  if open then openBreaker() end
  return open
end

-- probed books a failed probe: the next one later, from another lane.
local function probed()
  redis.call('HDEL', G, 'probing', 'probeOk')
  if field('brk') ~= '' then
    local n = redis.call('HINCRBY', G, 'probes', 1)
    redis.call('HSET', G, 'brk', 'open', 'probeAt', int(now + math.min(300000, 10000 * 2 ^ n) * (1 + x.jitter)))
  elseif field('paused') ~= 'gone' then
    redis.call('HSET', G, 'probeAt', x.autoResume and int(now + 3600000) or '0')
  end
  wake = num('probeAt')
end

local function carrier(lane, pointer)
  if x.own then
    redis.call('HSET', B .. 'car', lane, x.car)
    return x.car
  end
  return newCarrier(lane, pointer)
end

-- await puts the lane between two tries: a carrier, no slot.
local function await(lane, delay)
  stop(lane)
  local c = carrier(lane, x.ptr)
  redis.call('ZADD', B .. 'wait', int(now + delay), lane)
  release()
  return reply('wait', {int(delay), c, lane})
end

-- leave takes the head out of its lane, to go on late and alone.
local function leave(lane)
  if isLate(lane) then return await(lane, x.delay) end
  if num('late') >= x.maxLate then return await(lane, x.stay) end
  local own = 'd:' .. x.dlv
  remove(lane, x.ptr)
  stop(lane)
  toReady(lane, false)
  redis.call('RPUSH', list(own), x.ptr)
  redis.call('HINCRBY', G, 'late', 1)
  redis.call('HSET', B .. own, 'late', '1')
  local c = carrier(own, x.ptr)
  redis.call('ZADD', B .. 'wait', int(now + x.delay), own)
  release()
  return reply('wait', {int(x.delay), c, own})
end

local function hold(lane, front)
  stop(lane)
  toReady(lane, front)
  release()
  return reply('held')
end
