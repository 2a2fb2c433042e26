-- unlist.lua: take a job out of its owner's lists. It stays among the changed ones, so that who looks back learns that it is gone.
-- KEYS  1 changed  2-15 the lists
-- ARGV  1 job  2 owner's channel  3 ms until it is gone  4 ms for which changes are kept
-- OUT   now (ms)
local now = now_ms()
local gone_at = string.format('%.0f', now + ARGV[3])
for list = 2, #KEYS do redis.call('ZREM', KEYS[list], ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[4]))
redis.call('ZADD', KEYS[1], gone_at, ARGV[1])
redis.call(PUBLISH, ARGV[2], string.format('%.0f', now) .. '\n' .. ARGV[1] .. '\n' .. ARGV[3])
return now
