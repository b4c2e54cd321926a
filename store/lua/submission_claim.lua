-- submission_claim: takes one due submission of an account to be sent now.
--
-- KEYS[1] the shard's key prefix, of which all keys are made
-- ARGV account · queueId ("": the first one due) · operation id · owner · lease in ms · slots
--   least ms between two claims · limits per minute, hour, day · of recipients a day (0: none)
--   percent of a limit at which to say so · elsewhere ("1": only what goes by a gateway)
-- Returns {"OK", now, "1" if it is the probe of a spool that wakes, due time of the next one ("": none),
--     n, n limits that are about to be reached, the row's fields and values}
--   {"NONE", due time of the next one or ""}   nothing is due, or not elsewhere
--   {"NOTDUE", when}                           the one asked for
--   {"GONE"}                                   it does not wait, or the account is not there
--   {"PAUSED"} {"ASLEEP", until, why; "" while its probe is on its way} {"BUSY"} {"PACED", until, now}
--   {"LIMIT", until, n, n limits that are reached}
-- A limit is seven words: approaching or exceeded, name, unit, volume, limit, window's start and end.
-- With all but OK nothing was changed, but when to look again. While the spool sleeps, what
-- goes by a gateway is claimed all the same.
--
-- Atomic, because slot, limits, attempt and fence must be taken together or not at all: two
-- processes that looked first would both send. The operation id stands in the row, so that a
-- claim whose answer was lost is answered again and takes no second submission.
local P, account, id, op, owner = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local A, S, R = P .. 'a:' .. account .. ':outbox:', P .. 'outbox:', P .. 'q:'
local spool, due, gateway, processing = A .. 'spool', A .. 'due', A .. 'gateway', A .. 'processing'
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local function int(n) return string.format('%.0f', n) end

local from = due -- or gateway, while nothing else is to be sent
local function taken(row, probe, near)
  local head = redis.call('ZRANGE', from, 0, 0, 'WITHSCORES')
  local answer = {'OK', int(now), probe, head[2] or '', #near}
  for _, v in ipairs(near) do answer[#answer + 1] = v end
  answer[#answer + 1], answer[#answer + 2] = 'id', string.sub(row, #R + 1)
  for _, v in ipairs(redis.call('HGETALL', row)) do answer[#answer + 1] = v end
  return answer
end

local busy = redis.call('ZRANGE', processing, 0, -1)
for _, member in ipairs(busy) do
  if redis.call('HGET', R .. member, 'op') == op then
    local probe = redis.call('HGET', spool, 'probe') == member and '1' or '0'
    return taken(R .. member, probe, {})
  end
end
if redis.call('HEXISTS', P .. 'accounts', account) == 0 then return {'GONE'} end
local s = redis.call('HMGET', spool, 'paused', 'sleep', 'why', 'probe')
if s[1] then return {'PAUSED'} end

local asleep
if s[2] and tonumber(s[2]) > now then
  asleep = {'ASLEEP', s[2], s[3] or ''}
elseif s[2] and s[4] and redis.call('ZSCORE', processing, s[4]) then
  asleep = {'ASLEEP', redis.call('HGET', R .. s[4], 'lease') or int(now), ''}
end
if asleep or ARGV[13] == '1' then from = gateway end

if id == '' then
  for _ = 1, 100 do -- ids whose row is gone are dropped on the way
    local head = redis.call('ZRANGE', from, 0, 0, 'WITHSCORES')
    if not head[1] or tonumber(head[2]) > now then
      local own = asleep and redis.call('ZRANGE', due, 0, 0, 'WITHSCORES') or {}
      if own[1] and tonumber(own[2]) <= now then return asleep end
      return {'NONE', own[2] or head[2] or ''}
    end
    if redis.call('ZSCORE', due, head[1]) and redis.call('EXISTS', R .. head[1]) == 1 then id = head[1]; break end
    redis.call('ZREM', due, head[1])
    redis.call('ZREM', gateway, head[1])
    schedule(S .. 'work', due, gateway, spool, account)
  end
  if id == '' then return {'NONE', int(now)} end
else
  local at = redis.call('ZSCORE', due, id)
  if not at then return {'GONE'} end
  if tonumber(at) > now then return {'NOTDUE', at} end
end
local by = redis.call('ZSCORE', gateway, id)
if not by and from == gateway then return asleep or {'NONE', ''} end
local row = R .. id
local state, attempt, fence, version, rcpt = unpack(redis.call('HMGET', row, 'state', 'attempt', 'fence', 'v', 'rcpt'))
if not state then return {'GONE'} end
local probe = s[2] and not by and '1' or '0'
if #busy >= tonumber(ARGV[6]) then return {'BUSY'} end

local function wait(until_)
  redis.call('HSET', spool, 'limit', int(until_))
  schedule(S .. 'work', due, gateway, spool, account)
end
local table_ = A .. 'limits'
local interval = tonumber(ARGV[7])
local pace = interval > 0 and (tonumber(redis.call('HGET', table_, 'last') or '0') or 0) + interval or 0
if pace > now then
  wait(pace)
  return {'PACED', int(pace), int(now)}
end

-- Limits are counted in buckets of a minute (60 of them) and of an hour (24): m and h hold
-- messages, H recipients. Buckets that no window reaches any more are removed.
local minute, hour, day = math.floor(now / 60000), math.floor(now / 3600000), math.floor(now / 86400000)
local counts, told = {}, {} -- by field; numbers as keys would be lists to some interpreters
local limited = false
for i = 8, 11 do limited = limited or tonumber(ARGV[i]) > 0 end
if limited then
  local all = redis.call('HGETALL', table_)
  for i = 1, #all, 2 do
    local kind, n = string.sub(all[i], 1, 1), tonumber(string.sub(all[i], 2))
    if n then
      if n <= (kind == 'm' and minute - 60 or hour - 24) then redis.call('HDEL', table_, all[i])
      else counts[all[i]] = math.max(0, tonumber(all[i + 1]) or 0) end
    else
      told[all[i]] = all[i + 1]
    end
  end
end
local near, over, room = {}, {}, 0
-- check looks at one limit: buckets of width ms, of which the last n count.
local function check(name, unit, limit, kind, width, n, need, window)
  if limit <= 0 then return end
  local last, used = math.floor(now / width), 0
  local function at(i) return counts[kind .. int(i)] or 0 end
  for i = last - n + 1, last do used = used + at(i) end
  local start = window and math.floor(now / window) * window
  local function tell(list, what, volume)
    if window and told[what .. ':' .. name] ~= int(start) then
      for _, v in ipairs({what, name, unit, int(volume), int(limit), int(start), int(start + window)}) do list[#list + 1] = v end
    end
  end
  if used > 0 and used + need > limit then
    local left, i = used, last - n + 1
    while i < last do
      left = left - at(i)
      if left == 0 or left + need <= limit then break end
      i = i + 1
    end
    room = math.max(room, (i + n) * width)
    tell(over, 'exceeded', used)
  elseif (used + need) * 100 >= tonumber(ARGV[12]) * limit then
    tell(near, 'approaching', used + need)
  end
end
rcpt = tonumber(rcpt or '1') or 1
check('perMinute', 'messages', tonumber(ARGV[8]), 'm', 60000, 1, 1, nil)
check('perHour', 'messages', tonumber(ARGV[9]), 'm', 60000, 60, 1, 3600000)
check('perDay', 'messages', tonumber(ARGV[10]), 'h', 3600000, 24, 1, 86400000)
check('recipientsPerDay', 'recipients', tonumber(ARGV[11]), 'H', 3600000, 24, rcpt, 86400000)
if room > 0 then
  wait(room)
  local answer = {'LIMIT', int(room), #over}
  for _, v in ipairs(over) do answer[#answer + 1] = v end
  return answer
end

local charged = '0'
if limited then
  charged = int(now)
  redis.call('HINCRBY', table_, 'm' .. int(minute), 1)
  redis.call('HINCRBY', table_, 'h' .. int(hour), 1)
  redis.call('HINCRBY', table_, 'H' .. int(hour), rcpt)
end
if interval > 0 then redis.call('HSET', table_, 'last', int(now)) end
if limited or interval > 0 then redis.call('PEXPIRE', table_, 90000000) end
redis.call('HDEL', spool, 'limit')
local lease = int(now + tonumber(ARGV[5]))
redis.call('HSET', row, 'state', 'processing', 'stage', 'connect', 'reason', '', 'until', '0', 'op', op, 'owner', owner,
  'lease', lease, 'charged', charged, 'attempt', int((tonumber(attempt or '0') or 0) + 1),
  'fence', int((tonumber(fence or '0') or 0) + 1), 'v', int((tonumber(version or '0') or 0) + 1))
redis.call('ZREM', due, id)
redis.call('ZREM', gateway, id)
redis.call('ZREM', A .. state, id)
redis.call('ZREM', S .. state, id)
redis.call('ZADD', processing, 0, id)
redis.call('ZADD', S .. 'processing', 0, id)
redis.call('ZADD', S .. 'leases', lease, id)
if probe == '1' then redis.call('HSET', spool, 'probe', id) end
schedule(S .. 'work', due, gateway, spool, account)
return taken(row, probe, near)
