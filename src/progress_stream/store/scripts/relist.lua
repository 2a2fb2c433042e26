-- relist.lua: put a job back into those of its owner's lists that lack it. Nothing where none does, or where it has just left them.
-- KEYS  1 changed  2 all  3 of its actor  4 of its state  5 of its state and its actor
-- ARGV  1 job  2 owner's channel  3 created_at (ms)
-- OUT   1 where it was missing, else 0
local job, now = ARGV[1], now_ms()
local changed_at = redis.call('ZSCORE', KEYS[1], job)
if changed_at and tonumber(changed_at) > now then return 0 end

local created_at = redis.call('ZSCORE', KEYS[2], job) or ARGV[3]
local missing = changed_at and 0 or 1
for list = 2, #KEYS do
  missing = missing + redis.call('ZADD', KEYS[list], 'NX', created_at, job)
end
if missing == 0 then return 0 end
local stamp = string.format('%.0f', now)
redis.call('ZADD', KEYS[1], stamp, job)
redis.call(PUBLISH, ARGV[2], stamp .. '\n' .. job)
return 1
