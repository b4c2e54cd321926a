-- A person pauses or resumes a route.
-- ARGV  slots, 'pause' | 'resume'
-- Status 'ok' or 'same' when there was nothing to do.
-- Atomic because what a resume lets through is released with it.
local paused = field('paused')
if ARGV[2] == 'pause' then
  if paused == 'api' then return reply('same') end
  redis.call('HSET', G, 'paused', 'api')
  say('paused', 'api', '0')
  return reply('ok')
end
if paused == '' then return reply('same') end
redis.call('HDEL', G, 'paused', 'streak', 'streakAt', 'notBefore', 'cap', 'okrow')
openGate()
resumed('deliver')
release()
return reply('ok')
