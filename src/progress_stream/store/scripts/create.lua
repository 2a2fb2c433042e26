-- create.lua: bring a job into being with its `queued` event, if nothing of that id is there; and note that the broker has it.
-- KEYS  1 events (stream)  2 state (hash)  3 due (sorted set)
-- ARGV  1 channel  2 job  3 confirmed (0|1)  4 fingerprint  5 event data  6 packed state  7 history  8 ms until unconfirmed is due
--       9 arguments ("": not kept)  10 ms for which the caller alone is to send its message (0: asks for no such claim)
-- OUT   {"created", id} | {"exists", status, fingerprint, confirmed (0|1), claimed (0|1)} | {"tombstone"}
local got = redis.call('HMGET', KEYS[2], 'control', 'tombstone', 'fingerprint', 'confirmed', 'claim')
if got[2] then return { 'tombstone' } end
local claim = ARGV[10] ~= '0' and string.format('%.0f', now_ms() + ARGV[10])
if got[1] then
  local c = cmsgpack.unpack(got[1])
  local same, unsent = (got[3] or '') == ARGV[4], got[4] ~= '1'
  local claimed = claim and same and unsent and c[6] == 'queued' and tonumber(got[5] or 0) <= now_ms()
  if claimed then redis.call('HSET', KEYS[2], 'claim', claim) end
  -- Its start may have come first; what it was called with only its sender knows, and of several the one who sends it.
  if same and ARGV[9] ~= '' then redis.call(claimed and 'HSET' or 'HSETNX', KEYS[2], 'args', ARGV[9]) end
  if ARGV[3] == '1' and unsent then
    redis.call('HSET', KEYS[2], 'confirmed', '1')
    redis.call('HDEL', KEYS[2], 'claim')
    if c[6] == 'queued' then redis.call('ZREM', KEYS[3], ARGV[2]) end
  end
  return { 'exists', c[6], got[3] or '', tonumber(got[4] or 0), claimed and 1 or 0 }
end

local c = fresh_control(replid())
redis.call('DEL', KEYS[1])
local id = add(KEYS[1], c, ARGV[7], 'queued', ARGV[5])
redis.call('HSET', KEYS[2], 'control', cmsgpack.pack(c), 'state', ARGV[6], 'fingerprint', ARGV[4], 'confirmed', ARGV[3])
if ARGV[9] ~= '' then redis.call('HSET', KEYS[2], 'args', ARGV[9]) end
if claim then redis.call('HSET', KEYS[2], 'claim', claim) end
if ARGV[3] ~= '1' then
  redis.call('ZADD', KEYS[3], string.format('%.0f', now_ms() + ARGV[8]), ARGV[2])
end
redis.call(PUBLISH, ARGV[1], id .. '\nqueued\n' .. ARGV[5])
return { 'created', id }
