-- create.lua: bring a job into being with its `queued` event, if nothing of that id is there; and note that the broker has it.
-- KEYS  1 events (stream)  2 state (hash)  3 due (sorted set)
-- ARGV  1 channel  2 job  3 confirmed (0|1)  4 fingerprint  5 event data  6 packed state  7 history  8 ms until unconfirmed is due
--       9 arguments ("": not kept)
-- OUT   {"created", id} | {"exists", status, fingerprint, confirmed (0|1)} | {"tombstone"}
local got = redis.call('HMGET', KEYS[2], 'control', 'tombstone', 'fingerprint', 'confirmed')
if got[2] then return { 'tombstone' } end
if got[1] then
  local c = cmsgpack.unpack(got[1])
  -- Its start may have come first; what it was called with only its sender knows.
  if ARGV[9] ~= '' then redis.call('HSETNX', KEYS[2], 'args', ARGV[9]) end
  if ARGV[3] == '1' and got[4] ~= '1' then
    redis.call('HSET', KEYS[2], 'confirmed', '1')
    if c[6] == 'queued' then redis.call('ZREM', KEYS[3], ARGV[2]) end
  end
  return { 'exists', c[6], got[3] or '', tonumber(got[4] or 0) }
end

local c = fresh_control(replid())
redis.call('DEL', KEYS[1])
local id = add(KEYS[1], c, ARGV[7], 'queued', ARGV[5])
redis.call('HSET', KEYS[2], 'control', cmsgpack.pack(c), 'state', ARGV[6], 'fingerprint', ARGV[4], 'confirmed', ARGV[3])
if ARGV[9] ~= '' then redis.call('HSET', KEYS[2], 'args', ARGV[9]) end
if ARGV[3] ~= '1' then
  redis.call('ZADD', KEYS[3], string.format('%.0f', now_ms() + ARGV[8]), ARGV[2])
end
redis.call('PUBLISH', ARGV[1], id .. '\nqueued\n' .. ARGV[5])
return { 'created', id }
