-- outbox_lib: what scripts that change a spool share. It stands in front of them.

-- schedule puts an account where sweepers look for it: at the time at which its next due
-- submission could be claimed, or nowhere while there is none or the account is paused.
-- What goes by a gateway does not sleep. An account with nothing in the outbox is not known
-- to sleep: it is idle, and has no key.
local function schedule(work, due, gateway, spool, account)
  local s = redis.call('HMGET', spool, 'paused', 'sleep', 'limit', 'n')
  local head = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  if not s[4] and not head[1] then redis.call('HDEL', spool, 'sleep', 'why', 'level', 'probe', 'limit') end
  if s[1] or not head[1] then return redis.call('ZREM', work, account) end
  local at = math.max(tonumber(head[2]), tonumber(s[2] or '0'))
  if s[2] then
    local awake = redis.call('ZRANGE', gateway, 0, 0, 'WITHSCORES')
    at = math.min(at, tonumber(awake[2]) or at)
  end
  at = math.max(at, tonumber(s[3] or '0'))
  redis.call('ZADD', work, string.format('%.0f', at), account)
end

-- tally adds to a counter, which is not there while it is 0.
local function tally(key, field, delta)
  if redis.call('HINCRBY', key, field, delta) <= 0 then redis.call('HDEL', key, field) end
end
