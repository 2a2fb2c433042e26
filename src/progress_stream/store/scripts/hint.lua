-- hint.lua: note in its owner's lists which state a job takes, and when it changed last. Hints: the job's own state is the truth.
-- Before the job's own write the new place is only added, after it the others are left: a writer that dies between the two leaves
-- a hint too many, which a reader drops, and none too few.
-- KEYS  1 changed  2 all  3 of its actor  4-9 of each state  10-15 of each state and its actor (1 alone: its state is the same)
-- ARGV  1 job  2 owner's channel  3 created_at (ms)  4 number of its state (1-6)  5 it is written (0|1)
-- OUT   now (ms)
local job, now = ARGV[1], now_ms()
local stamp = string.format('%.0f', now)
redis.call('ZADD', KEYS[1], stamp, job)
if #KEYS == 1 then
  redis.call(PUBLISH, ARGV[2], stamp .. '\n' .. job)
  return now
end

-- Ended, and nowhere else: a late word of a beginning must not bring it back among the open ones.
local function is_over()
  for state = 1, 3 do
    if redis.call('ZSCORE', KEYS[3 + state], job) then return false end
  end
  for state = 4, 6 do
    if redis.call('ZSCORE', KEYS[3 + state], job) then return true end
  end
  return false
end

local state = tonumber(ARGV[4])
redis.call('ZADD', KEYS[2], 'NX', ARGV[3], job)
-- A request that is repeated under one Idempotency-Key brings a new time: a row keeps its place, and has the same in each list.
local created_at = redis.call('ZSCORE', KEYS[2], job)
redis.call('ZADD', KEYS[3], created_at, job)
if state > 3 or not is_over() then
  redis.call('ZADD', KEYS[3 + state], created_at, job)
  redis.call('ZADD', KEYS[9 + state], created_at, job)
  for other = 1, 6 do
    if ARGV[5] == '1' and other ~= state then
      redis.call('ZREM', KEYS[3 + other], job)
      redis.call('ZREM', KEYS[9 + other], job)
    end
  end
end
if ARGV[5] == '1' then redis.call(PUBLISH, ARGV[2], stamp .. '\n' .. job) end
return now
