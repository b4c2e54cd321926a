-- A delivery failed, or ends without success.
-- ARGV  slots, failure (JSON, see lane_lib_fail.lua), frozen body.
-- The mode says what the deliverer found by the delivery's own record; the gate, which
-- only this script sees, has the last word:
--   wait   again in this lane after delay       leave  go on late after delay
--   prove  leave if the endpoint takes others   hold   back to ready, for the gate
--   probe  the attempt was a probe              end    exhausted or dropped
-- Status 'wait': says ms until due, carrier, lane. 'held', 'ended': the task is over.
--        'pair': the slot is kept; says up to 15 pointers behind the head. 'stale'.
-- Atomic because route and delivery must agree on who is to blame.
local lane = x.lane
if not owns(lane, x.car) then return reply('stale') end
local probing = field('probing') == lane
-- A success of the route since the delivery's failure before this one is proof enough.
local since = tonumber(redis.call('HGET', B .. 'd:' .. x.dlv, 'failedAt') or '') or now - x.took
if x.log ~= '' and not counted(x.dlv, x.rec) then
  redis.call('XADD', B .. 'log', 'MAXLEN', '~', int(x.logMax), '*', 'a', x.log)
  if x.mode ~= 'end' then record(x.dlv, x.rec, ARGV[3]) end
  if x.class ~= 'interrupted' and x.class ~= 'proxy' then unwell(lane) end
end

if x.mode == 'end' then
  local fields = {'id', x.dlv, 'state', x.state, 'reason', x.reason, 'at', int(now)}
  for k, v in pairs(x.rec) do fields[#fields + 1] = k; fields[#fields + 1] = v end
  local body = redis.call('GET', B .. 'b:' .. x.dlv) or ARGV[3] or ''
  if body ~= '' then fields[#fields + 1] = 'body'; fields[#fields + 1] = body end
  redis.call('XADD', B .. 'dead', 'MAXLEN', '~', int(x.deadMax), '*', unpack(fields))
  local old = redis.call('XRANGE', B .. 'dead', '-', '+', 'COUNT', 1)[1]
  if old and tonumber(string.match(old[1], '^%d+')) < now - x.deadKeep then
    redis.call('XTRIM', B .. 'dead', 'MINID', int(now - x.deadKeep))
  end
  if redis.call('EXISTS', B .. 'd:' .. x.dlv) == 1 then redis.call('HINCRBY', G, 'recs', -1) end
  record(x.dlv, x.rec, '')
  redis.call('HINCRBY', G, 'recs', -1)
  redis.call('HSET', B .. 'd:' .. x.dlv, 'state', x.state, 'reason', x.reason, 'ended', int(now))
  redis.call('EXPIRE', B .. 'd:' .. x.dlv, 86400)
  redis.call('UNLINK', B .. 'b:' .. x.dlv)
  if remove(lane, x.ptr) == 1 then
    redis.call('HINCRBY', G, 'pending', -1)
    redis.call('HINCRBY', G, x.state, 1)
    if isLate(lane) then redis.call('HINCRBY', G, 'late', -1) end
  end
  if x.state == 'exhausted' then
    local n = redis.call('HINCRBY', G, 'exhN', 1)
    if num('exhAt') + 3600000 <= now then
      if x.say then say('exhausted', x.dlv, x.rec.eventId, x.event, x.rec.attempts, int(n)) end
      redis.call('HSET', G, 'exhAt', int(now), 'exhN', '0')
    end
  else
    local n = redis.call('HINCRBY', G, 'lostN', 1)
    if x.say and num('lostAt') + 60000 <= now then
      say('dropped', int(n), x.reason)
      redis.call('HSET', G, 'lostAt', int(now), 'lostN', '0')
    end
  end
  if probing then probed() end
  stop(lane)
  toReady(lane, false)
  release()
  return reply('ended')
end

local function pair()
  local extra = redis.call('LRANGE', list(lane), 1, 15)
  redis.call('ZADD', B .. 'run', int(now + x.lease), lane)
  return reply('pair', extra)
end

if probing or x.mode == 'probe' then
  if not probing then return hold(lane, true) end
  local alone = redis.call('EXISTS', B .. 'ready', B .. 'readyLate', B .. 'wait') == 0 and redis.call('ZCARD', B .. 'run') == 1
  if alone and field('brk') ~= '' and num('probes') >= 1 and not x.strict and not isLate(lane) and redis.call('LLEN', list(lane)) > 1 then
    return pair()
  end
  probed()
  return hold(lane, false)
end
if x.mode == 'hold' or (x.mode == 'prove' and gate() ~= 'open') then return hold(lane, true) end
if x.mode == 'wait' then return await(lane, x.delay) end
if x.mode == 'leave' then return leave(lane) end

-- prove
if num('lastOk') >= since then return leave(lane) end
if redis.call('LLEN', list(lane)) == 1 then
  local r = await(lane, x.delay)
  redis.call('HSET', B .. 'alone', lane, '1')
  return r
end
return pair()
