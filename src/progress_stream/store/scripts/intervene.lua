-- intervene.lua: one event by somebody who does not hold the attempt (the sweep, a cancel, a refused enqueue), if all is still
-- as it was when that was decided.
-- KEYS  1 events (stream)  2 state (hash)  3 due (sorted set); of a part also 4 its parent's events  5 its parent's state  6 the parts
-- ARGV  1 channel  2 job  3 statuses it may be in (comma-separated)  4 attempt ("": any)  5 seen_at ("": any)  6 type
--       7 data before the attempt's number  8 and after it (both whole: 7 alone where there is no attempt yet)  9 data without attempt
--       10 status after ("": as it is)  11 field to set ("": none)  12 its value  13 history  14 ms until due
--       15 events TTL  16 state TTL  17 of a part why it failed (JSON; "": it did not)
-- OUT   {"done", id, and of a part: parent moved (0|1), its follow-up is due (0|1), it has ended (0|1)} | {"ended", status} | {"changed"} | {"missing"} | {"tombstone"}
local got = redis.call('HMGET', KEYS[2], 'control', 'tombstone', 'seen_at', ARGV[11] == '' and 'control' or ARGV[11])
if not got[1] then return { got[2] and 'tombstone' or 'missing' } end
local c = cmsgpack.unpack(got[1])
if ENDED[c[6]] then return { 'ended', c[6] } end
if not string.find(',' .. ARGV[3] .. ',', ',' .. c[6] .. ',', 1, true) then return { 'changed' } end
if ARGV[4] ~= '' and c[3] ~= tonumber(ARGV[4]) then return { 'changed' } end
if ARGV[5] ~= '' and got[3] ~= ARGV[5] then return { 'changed' } end
if ARGV[11] ~= '' and got[4] then return { 'changed' } end

local id = replid()
if c[7] ~= id then begin_stream(KEYS[1], c, id) end
local data = c[3] > 0 and (ARGV[7] .. string.format('%d', c[3]) .. ARGV[8]) or ARGV[9]
local event = add(KEYS[1], c, ARGV[13], ARGV[6], data)
if ARGV[10] ~= '' then c[6] = ARGV[10] end
redis.call('HSET', KEYS[2], 'control', cmsgpack.pack(c))
local now = now_ms()
if ARGV[11] == 'end' then
  redis.call('HSET', KEYS[2], 'end', data)
elseif ARGV[11] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[11], string.format('%.0f', now))
end
-- The parts of a job that is to end are the sweep's to tell, where whoever asked for it does not live to do so.
local wait = ARGV[14]
if ARGV[11] == 'cancel_at' and redis.call('HEXISTS', KEYS[2], 'spread') == 1 then wait = 0 end
redis.call('ZADD', KEYS[3], string.format('%.0f', now + wait), ARGV[2])
if ENDED[c[6]] then expire_ended(KEYS, ARGV[2], ARGV[15], ARGV[16], now) end
redis.call(PUBLISH, ARGV[1], event .. '\n' .. ARGV[6] .. '\n' .. data)
if #KEYS == 3 then return { 'done', event } end
local p, part = parent_of(ARGV[2], ARGV[1], ARGV[13], ARGV[15], ARGV[16])
local rolled = roll(p, part, ENDED[c[6]] and c[6] or nil, { error = ARGV[17] ~= '' and ARGV[17] or nil }, now)
return { 'done', event, rolled[1], rolled[2], rolled[3] }
