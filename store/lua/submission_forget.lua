-- submission_forget: removes rows that ended long enough ago, with their bodies.
--
-- KEYS[1] the shard's key prefix, of which all keys are made
-- ARGV[1] how many at most
-- Returns how many there were to look at.
--
-- Atomic, because a row goes with its places in the books; one that was queued again
-- meanwhile is in "ended" no more.
local P = KEYS[1]
local S = P .. 'outbox:'
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ids = redis.call('ZRANGEBYSCORE', S .. 'ended', '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  local row = P .. 'q:' .. id
  local r = redis.call('HMGET', row, 'account', 'state', 'size')
  if r[1] then
    local A = P .. 'a:' .. r[1] .. ':outbox:'
    redis.call('ZREM', A .. r[2], id)
    redis.call('ZREM', S .. r[2], id)
    if r[2] == 'unknown' then -- the only one of them that counts to what waits
      for _, sum in ipairs({A .. 'spool', S .. 'sum'}) do
        tally(sum, 'n', -1)
        tally(sum, 'bytes', -tonumber(r[3] or '0'))
      end
      schedule(S .. 'work', A .. 'due', A .. 'gateway', A .. 'spool', r[1]) -- a spool that is empty now does not sleep
    end
  end
  redis.call('UNLINK', row, row .. ':body')
  redis.call('ZREM', S .. 'ended', id)
  redis.call('ZREM', S .. 'after', id)
end
return #ids
