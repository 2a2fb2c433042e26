-- read.lua: the server's role, the job and its stream from a position on, all of one moment.
-- KEYS  1 events (stream)  2 state (hash)
-- ARGV  1 position, inclusive ("": no entries)  2 most entries
-- OUT   {role, replid, {control, tombstone, state, seen_at, stalled_at, cancel_at, end, file, confirmed, fingerprint, spread}, entries, now}
local info = redis.call('INFO', 'replication')
local role = string.match(info, 'role:(%a+)') or ''
local replid = string.match(info, 'master_replid:(%x+)') or ''
local got = redis.call('HMGET', KEYS[2], 'control', 'tombstone', 'state', 'seen_at', 'stalled_at', 'cancel_at', 'end', 'file',
  'confirmed', 'fingerprint', 'spread')
if got[1] then got[1] = cjson.encode(cmsgpack.unpack(got[1])) end
if got[11] then got[11] = cjson.encode(cmsgpack.unpack(got[11])) end
local entries = {}
if ARGV[1] ~= '' then entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2]) end
local t = redis.call('TIME')
return { role, replid, got, entries, t[1] * 1000 + math.floor(t[2] / 1000) }
