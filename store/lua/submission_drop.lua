-- submission_drop: removes rows and bodies of accounts that were deleted.
--
-- KEYS[1] the shard's key prefix, of which all keys are made
-- ARGV[1] how many at most · ARGV[2..] the states there are
-- Returns how many were removed.
--
-- Atomic, because a row goes with its places in the books. The account's own books went
-- with it; what it had in a state stands in the sets that "drops" names.
local P, left = KEYS[1], tonumber(ARGV[1])
local S = P .. 'outbox:'
local gone = 0
while left > 0 do
  local set = redis.call('ZRANGE', S .. 'drops', 0, 0)[1]
  if not set then break end
  local ids = redis.call('ZRANGE', S .. set, 0, left - 1)
  for _, id in ipairs(ids) do
    local row = P .. 'q:' .. id
    redis.call('UNLINK', row, row .. ':body')
    for i = 2, #ARGV do redis.call('ZREM', S .. ARGV[i], id) end
    redis.call('ZREM', S .. 'leases', id)
    redis.call('ZREM', S .. 'ended', id)
    redis.call('ZREM', S .. 'after', id)
    redis.call('ZREM', S .. 'unsettled', id)
    redis.call('ZREM', S .. set, id)
  end
  left, gone = left - #ids, gone + #ids
  if redis.call('EXISTS', S .. set) == 0 then redis.call('ZREM', S .. 'drops', set) end
end
return gone
