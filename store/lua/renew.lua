-- renew: prolong the leases of one shard that are still ours.
--
-- KEYS[1] leases of the shard (zset)  KEYS[2..] the lease (hash) of each account
-- ARGV owner · ttl in ms (0 releases) · then account, fence for each
-- Returns the accounts whose fence is no longer ours.
--
-- Atomic per lease, because a lease that was taken by another in between must not be prolonged
-- for us.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lost = {}
for i = 2, #KEYS do
  local account, fence = ARGV[2 * i - 1], ARGV[2 * i]
  local held = redis.call('HMGET', KEYS[i], 'fence', 'owner')
  if held[1] == fence and held[2] == ARGV[1] and redis.call('ZSCORE', KEYS[1], account) then
    if ARGV[2] == '0' then
      redis.call('ZADD', KEYS[1], 0, account)
      redis.call('HDEL', KEYS[i], 'owner')
    else
      redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), account)
    end
  else
    lost[#lost + 1] = account
  end
end
return lost
