-- spread.lua: close one call of spread(): its parts, put by with `part.lua`, begin to count, all of them in this step.
-- KEYS  1 events  2 state  3 due (sorted set)  4 parts (hash)
-- ARGV  1 channel  2 job  3 attempt  4 nonce  5 call of spread(), from 1  6 parts in it  7 sum of their weights  8 parts that have one
--       9 on_failure  10 has a follow-up (0|1)  11 no more parts will come (0|1)  12 unit ("": what the parts say)
--       13 done so far ("": nothing)  14 history
-- OUT   {"spread", total} | {"known", total} | {"superseded", attempt} | {"ended", status} | {"missing"} | {"tombstone"}
local got = redis.call('HMGET', KEYS[2], 'control', 'tombstone', 'spread')
if not got[1] then return { got[2] and 'tombstone' or 'missing' } end
local c = cmsgpack.unpack(got[1])
if c[3] ~= tonumber(ARGV[3]) or c[4] ~= ARGV[4] then return { 'superseded', c[3] } end
if ENDED[c[6]] then return { 'ended', c[6] } end
local s = got[3] and cmsgpack.unpack(got[3])
if s and s.batches >= tonumber(ARGV[5]) then return { 'known', s.total } end
s = s or {
  total = 0, queued = 0, running = 0, succeeded = 0, failed = 0, cancelled = 0, batches = 0, sealed = false, released = false,
  rows = 0, of = 0, known = 0, whole = 0, mixed = false, by = 'parts', dirty = false, after = '', done = tonumber(ARGV[13]),
}
local count = tonumber(ARGV[6])
s.batches = s.batches + 1
s.total, s.queued = s.total + count, s.queued + count
s.of, s.known = s.of + tonumber(ARGV[7]), s.known + tonumber(ARGV[8])
s.on_failure, s.sealed = ARGV[9], ARGV[11] == '1'
if ARGV[10] == '1' then s.after = 'waiting' end
if ARGV[12] ~= '' then s.unit = ARGV[12] end
-- More were put by in an attempt that died before it closed the call: they never were.
local stray, base = s.total + 1, string.sub(KEYS[2], 1, -7)
while c[3] > 1 and redis.call('HDEL', KEYS[4], string.format('%d', stray)) == 1 do
  local part = base .. '~' .. string.format('%d', stray)
  redis.call('DEL', part .. ':events', part .. ':state')
  stray = stray + 1
end
local p = { job = ARGV[2], channel = ARGV[1], events = KEYS[1], state = KEYS[2], parts = KEYS[4], due = KEYS[3], history = ARGV[14] }
show(p, s, c, now_ms(), 'progress', '')
keep(p, s, c)
return { 'spread', s.total }
