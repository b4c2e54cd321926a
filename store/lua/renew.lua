-- renew: prolong the leases of one shard that are still ours.
--
-- KEYS[1] leases of the shard (zset)  then for each account its lease (hash) and its state (hash)
-- ARGV owner · ttl in ms (0 releases) · then account, fence, the seq its holder knows for each
-- Returns {the accounts whose fence is no longer ours}, {those whose seq is below the known one}
--
-- Atomic per lease, because a lease that was taken by another in between must not be prolonged
-- for us. A seq that went back says that Redis has forgotten what it had confirmed.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lost, behind = {}, {}
for n = 1, (#KEYS - 1) / 2 do
  local i = 2 * n
  local account, fence, known = ARGV[3 * n], ARGV[3 * n + 1], tonumber(ARGV[3 * n + 2])
  local held = redis.call('HMGET', KEYS[i], 'fence', 'owner')
  if held[1] == fence and held[2] == ARGV[1] and redis.call('ZSCORE', KEYS[1], account) then
    if ARGV[2] == '0' then
      redis.call('ZADD', KEYS[1], 0, account)
      redis.call('HDEL', KEYS[i], 'owner')
    else
      redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), account)
      if known > (tonumber(redis.call('HGET', KEYS[i + 1], 'seq') or '0') or 0) then behind[#behind + 1] = account end
    end
  else
    lost[#lost + 1] = account
  end
end
return {lost, behind}
