-- Appends pointers to lanes of one route, in feed order, and skips what is there already.
-- ARGV  slots, version of the target, shard, fence, fresh 0|1 (nothing here was sent
--       before), bound of pending, then per pointer: feed id, seq, event, lane.
-- Status 'ok' or 'fenced'; says: appended, repeats, ids bumped, dropped at the bound.
-- Atomic because `top` must move with the push: it is the proof against repeats.
local function parts(id)
  local a, b = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(a or '0'), tonumber(b or '0')
end
local shard, fence, fresh, bound = ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6])
local top = redis.call('HGET', B .. 'top', shard) or '0-0 0'
local last, f = string.match(top, '^(%S+) (%S+)$')
if fence < tonumber(f) then return reply('fenced') end
if field('drop') == '1' then
  redis.call('HDEL', G, 'drop')
  for _, k in ipairs({'gate', 'top', 'log', 'dead'}) do redis.call('PERSIST', B .. k) end
end
changed(ARGV[2])

local appended, repeats, bumped, dropped = 0, 0, 0, 0
local pending = num('pending')
local ams, aseq = parts(last)
for i = 7, #ARGV, 4 do
  local id, lane = ARGV[i], ARGV[i + 3]
  local ms, seq = parts(id)
  local new = ms > ams or (ms == ams and seq > aseq)
  if not new and fresh then
    ms, seq, new = ams, aseq + 1, true
    id = int(ms) .. '-' .. int(seq)
    bumped = bumped + 1
  end
  if not new then
    repeats = repeats + 1
  else
    ams, aseq, last = ms, seq, id
    local key = list(lane)
    local n = redis.call('RPUSH', key, id .. ' ' .. ARGV[i + 1] .. ' ' .. ARGV[i + 2])
    appended, pending = appended + 1, pending + 1
    if redis.call('HEXISTS', B .. 'car', lane) == 1 then
      if redis.call('HDEL', B .. 'alone', lane) == 1 then
        stop(lane)
        redis.call('RPUSH', ready(lane), lane)
      end
    elseif n == 1 then
      redis.call('RPUSH', ready(lane), lane)
    end
    if pending > bound and n > 1 then
      -- The head may be in flight: the oldest behind it goes.
      local at = redis.call('HEXISTS', B .. 'car', lane)
      local old = redis.call('LINDEX', key, at)
      redis.call('LREM', key, 1, old)
      dropped, pending = dropped + 1, pending - 1
    end
  end
end
redis.call('HSET', B .. 'top', shard, last .. ' ' .. int(fence))
redis.call('HSET', G, 'pending', int(pending), 'appended', int(now))
if dropped > 0 then
  local n = redis.call('HINCRBY', G, 'dropN', dropped)
  if num('dropAt') + 60000 <= now then
    say('dropped', int(n), 'heldCap')
    redis.call('HSET', G, 'dropAt', int(now), 'dropN', '0')
  end
end
release()
return reply('ok', {appended, repeats, bumped, dropped})
