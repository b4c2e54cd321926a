-- trim: forget the oldest feed entries of a shard and the journal entries they point to.
--
-- KEYS[1] feed (stream)  KEYS[2] trimmed (string: id of the newest entry forgotten)
-- KEYS[3] registry of the shard (hash)  KEYS[4..] the journals (streams)
-- ARGV id of the first feed entry to keep · id of the last one to forget · then per journal: account, first seq to keep
-- Returns how many feed entries went.
--
-- Atomic, because a pointer must live exactly as long as what it points to: cursors read both.
for i = 4, #KEYS do
  local account, keep = ARGV[2 * i - 5], ARGV[2 * i - 4]
  redis.call('XTRIM', KEYS[i], 'MINID', keep .. '-0')
  if redis.call('XLEN', KEYS[i]) == 0 and redis.call('HEXISTS', KEYS[3], account) == 0 then
    redis.call('DEL', KEYS[i])
  end
end
redis.call('SET', KEYS[2], ARGV[2])
return redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1])
