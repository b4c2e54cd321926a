-- commit: one account's change of state with the events it causes, all or nothing.
--
-- KEYS[1] state (hash)  KEYS[2] lease (hash)  KEYS[3] journal (stream)  KEYS[4] feed (stream)
-- KEYS[5..] whatever the operations name by number
-- ARGV, read one after another:
--   commit id · need state ("1": the state must exist) · fence ("": not checked)
--   n guards: key number, field, expected value ("": absent; "!x": anything but x; "<n": a number
--     below n; "#n": the key has n fields)
--   n operations before the events: command, key number, n arguments, the arguments
--   account · n events: type, once ("1": skip if its id was appended in the last day), id, JSON
--   n operations after the events, likewise
--   hint channel · hint ("": none) · hint to give when there were events
-- Returns {"OK", first seq, last seq, date in ms}
--   {"LEASE"} the fence is not ours · {"STALE"} a guard differs · {"FULL"} a number is not below ·
--   {"LOST"} the state is not there, or behind its own journal. With these nothing was changed.
--
-- Atomic, because a cursor that moved without its events loses them, and events without their
-- cursor are told twice. A commit id that is the last one of this state was done before and its
-- answer lost: the answer is given again and nothing is changed.
local pos = 0
local function take() pos = pos + 1; return ARGV[pos] end
local state, journal, feed = KEYS[1], KEYS[3], KEYS[4]

local id, need, fence = take(), take(), take()
local done = redis.call('HMGET', state, 'cid', 'c1', 'c2', 'cd')
if done[1] and done[1] == id then return {'OK', done[2], done[3], done[4]} end
if need == '1' and redis.call('HEXISTS', state, 'epoch') == 0 then return {'LOST'} end
if fence ~= '' and redis.call('HGET', KEYS[2], 'fence') ~= fence then return {'LEASE'} end
for _ = 1, tonumber(take()) do
  local key, field, want = KEYS[tonumber(take())], take(), take()
  local kind, rest = string.sub(want, 1, 1), string.sub(want, 2)
  if kind == '#' then
    if redis.call('HLEN', key) ~= tonumber(rest) then return {'STALE'} end
  else
    local have = redis.call('HGET', key, field) or ''
    if kind == '<' then
      if (tonumber(have) or 0) >= tonumber(rest) then return {'FULL'} end
    elseif kind == '!' then
      if have == rest then return {'STALE'} end
    elseif have ~= want then
      return {'STALE'}
    end
  end
end

-- The events are read before anything is written: nothing below may fail half-way.
local opsAt = pos
local function skip()
  for _ = 1, tonumber(take()) do
    take(); take()
    local n = tonumber(take())
    pos = pos + n
  end
end
skip()
local account = take()
local events = {}
for _ = 1, tonumber(take()) do events[#events + 1] = {take(), take(), take(), take()} end
local afterAt = pos

local seq = tonumber(redis.call('HGET', state, 'seq') or '0') or 0
local newest = redis.call('XREVRANGE', journal, '+', '-', 'COUNT', 1)[1]
local top = newest and tonumber(string.match(newest[1], '^%d+')) or 0
if need == '1' and #events > 0 and top > seq then return {'LOST'} end
if top > seq then seq = top end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local date = math.max(now, tonumber(redis.call('HGET', state, 'date') or '0') or 0)

local function operate()
  for _ = 1, tonumber(take()) do
    local cmd, key, args = take(), KEYS[tonumber(take())], {}
    for i = 1, tonumber(take()) do args[i] = take() end
    if cmd == 'ZNOW' then redis.call('ZADD', key, now, args[1])
    elseif cmd == 'ZNEVER' then redis.call('ZADD', key, -now, args[1])
    elseif cmd == 'FORGET' then -- identities older than args[2] ms, or above args[3] of them
      local old = redis.call('ZRANGEBYSCORE', key, '-inf', now - tonumber(args[2]), 'LIMIT', 0, 1000)
      local over = redis.call('ZCARD', key) - #old - tonumber(args[3])
      if over > 0 then old = redis.call('ZRANGE', key, 0, #old + math.min(over, 1000) - 1) end
      for _, member in ipairs(old) do
        redis.call('ZREM', key, member)
        redis.call('HDEL', KEYS[tonumber(args[1])], member)
      end
    elseif cmd == 'WORK' then schedule(key, KEYS[tonumber(args[1])], KEYS[tonumber(args[2])], KEYS[tonumber(args[3])], args[4])
    elseif cmd == 'TALLY' then tally(key, args[1], args[2])
    elseif cmd == 'DROP' then -- a set of submissions, with the rows behind prefix args[4] where it is given
      if redis.call('EXISTS', key) == 1 then
        if args[4] then
          for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('UNLINK', KEYS[tonumber(args[4])] .. member) end
        end
        redis.call('RENAME', key, KEYS[tonumber(args[1])])
        redis.call('ZADD', KEYS[tonumber(args[2])], 0, args[3])
      end
    elseif cmd == 'SENTLOG' then -- line args[3] of a submission, whose lines begin with args[2]; args[4] lines are kept
      local lines, n = args[3], 1
      for line in string.gmatch(redis.call('HGET', key, args[1]) or '', '[^\n]+') do
        if n < tonumber(args[4]) and string.sub(line, 1, #args[2]) ~= args[2] then lines, n = lines .. '\n' .. line, n + 1 end
      end
      redis.call('HSET', key, args[1], lines)
    elseif cmd == 'SEQ' then seq = math.max(seq, tonumber(args[1])) -- numbering goes on above it
    else redis.call(cmd, key, unpack(args)) end
  end
end

pos = opsAt
operate()

local first = 0
for _, e in ipairs(events) do
  local fresh = true
  if e[2] == '1' then
    fresh = redis.call('ZADD', KEYS[5], 'NX', now, e[3]) == 1
    redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - 86400000)
  end
  if fresh then
    seq = seq + 1
    if first == 0 then first = seq end
    local s = string.format('%.0f', seq)
    redis.call('XADD', journal, s .. '-0', 'd', string.format('%.0f', date), 'x', e[4])
    redis.call('XADD', feed, '*', 'a', account, 's', s, 't', e[1])
  end
end
local c1, c2, cd = string.format('%.0f', first), string.format('%.0f', seq), string.format('%.0f', date)
redis.call('HSET', state, 'cid', id, 'c1', c1, 'c2', c2, 'cd', cd, 'seq', c2)
if first > 0 then redis.call('HSET', state, 'date', cd) end

pos = afterAt
operate()

local channel, hint = take(), take()
if hint ~= '' then redis.call('PUBLISH', channel, hint) end
if first > 0 then redis.call('PUBLISH', channel, take()) end
return {'OK', c1, c2, cd}
