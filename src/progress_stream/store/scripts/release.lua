-- release.lua: the actor that spread its job has returned; the job goes on until its parts, and what follows them, have ended.
-- KEYS  1 events  2 state  3 due (sorted set)  4 parts (hash)
-- ARGV  1 channel  2 job  3 attempt  4 nonce  5 the actor's result as members of a JSON object  6 history  7 events TTL (s)  8 state TTL (s)
-- OUT   {"released", follow-up due (0|1), ended (0|1)} | {"plain"} (never spread) | {"superseded", attempt} | {"ended", status}
--       | {"missing"} | {"tombstone"}
local got = redis.call('HMGET', KEYS[2], 'control', 'tombstone', 'spread')
if not got[1] then return { got[2] and 'tombstone' or 'missing' } end
local c = cmsgpack.unpack(got[1])
if c[3] ~= tonumber(ARGV[3]) or c[4] ~= ARGV[4] then return { 'superseded', c[3] } end
if ENDED[c[6]] then return { 'ended', c[6] } end
if not got[3] then return { 'plain' } end
local s = cmsgpack.unpack(got[3])
local now = now_ms()
local p = {
  job = ARGV[2], channel = ARGV[1], events = KEYS[1], state = KEYS[2], parts = KEYS[4], due = KEYS[3], history = ARGV[6],
  events_ttl = ARGV[7], state_ttl = ARGV[8],
}
local was_sealed = s.sealed
s.sealed, s.released, s.result = true, true, ARGV[5]
redis.call('HDEL', KEYS[2], 'stalled_at')
redis.call('ZREM', KEYS[3], ARGV[2])
if not was_sealed then show(p, s, c, now, 'progress', '') end
decide(p, s, c, now)
keep(p, s, c)
return { 'released', s.after == 'due' and 1 or 0, ENDED[c[6]] and 1 or 0 }
