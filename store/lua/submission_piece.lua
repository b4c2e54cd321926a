-- submission_piece: stores a piece of the body of a submission that is not accepted yet.
--
-- KEYS[1] row (hash)  KEYS[2] body (hash)
-- ARGV number of the piece · the piece · ms after which the body is forgotten; or none of
--   them: the pieces there are are removed
-- Returns 1, or 0: nothing was changed, for the submission was accepted or there was nothing.
--
-- Atomic, because the body of an accepted submission must not be given an end again.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if not ARGV[1] then return redis.call('UNLINK', KEYS[2]) end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
