-- submission_keep: what the holder of a claim says while it sends.
--
-- KEYS[1] the shard's key prefix, of which all keys are made
-- ARGV queueId · fence · attempt · "mark", or ms by which the lease is prolonged
--   with "mark": whom the server accepted ("": not known)
-- Returns 1, or 0: the claim is no longer ours, or its account, and the row with
--   it, is gone; nothing was changed.
--
-- Atomic, because a mark that came after the claim was taken away would let two send.
local P, id = KEYS[1], ARGV[1]
local row = P .. 'q:' .. id
local r = redis.call('HMGET', row, 'state', 'fence', 'attempt')
if r[1] ~= 'processing' or r[2] ~= ARGV[2] or r[3] ~= ARGV[3] then return 0 end
if ARGV[4] == 'mark' then
  redis.call('HSET', row, 'stage', 'data', 'marked', ARGV[5])
  return 1
end
local time = redis.call('TIME')
local lease = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[4]))
redis.call('HSET', row, 'lease', lease)
redis.call('ZADD', P .. 'outbox:leases', lease, id)
return 1
