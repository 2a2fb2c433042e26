-- remove.lua: take back a job that the broker refused, or delete one that has ended; a tombstone keeps it gone.
-- KEYS  1 events (stream)  2 state (hash)  3 due (sorted set)
-- ARGV  1 job  2 statuses it may be in (comma-separated)  3 tombstone's life (s; 0: none)  4 only unconfirmed (0|1)
--       5 channel  6 what its watchers are told  7 ms until the sweep looks after its files
-- OUT   {"removed"} | {"status", status} | {"missing"}
local got = redis.call('HMGET', KEYS[2], 'control', 'confirmed')
if not got[1] then return { 'missing' } end
local c = cmsgpack.unpack(got[1])
if not string.find(',' .. ARGV[2] .. ',', ',' .. c[6] .. ',', 1, true) then return { 'status', c[6] } end
if ARGV[4] == '1' and got[2] == '1' then return { 'status', c[6] } end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
if ARGV[3] ~= '0' then
  redis.call('HSET', KEYS[2], 'tombstone', '1')
  redis.call('EXPIRE', KEYS[2], ARGV[3])
  redis.call('ZADD', KEYS[3], string.format('%.0f', now_ms() + ARGV[7]), ARGV[1])
  redis.call(PUBLISH, ARGV[5], ARGV[6])
end
return { 'removed' }
