-- append.lua: the newest attempt's events, or none as a sign of life; all of a call or nothing of it.
-- KEYS  1 events (stream)  2 state (hash)  3 due (sorted set); of a part (then _parent.lua is before this) also 4 its parent's events
--       5 its parent's state  6 the parts (hash)
-- ARGV  1 channel  2 job  3 attempt  4 nonce  5 sequence of the first event  6 jump (0|1)  7 history  8 packed state
--       9 status after ("": as it is)  10 ms until due (0: leave)  11 events TTL (s)  12 state TTL (s)  13 file ("": none)
--       14 of a part what it has counted (JSON)  15... type, data of each event
-- OUT   {"ok", id of the last event (false: none), cancel requested (0|1), stalled (0|1), replid, and of a part: parent moved (0|1),
--       its follow-up is due (0|1), it has ended (0|1)} | {"superseded", attempt} | {"ended", status} | {"hole", last} | {"missing"}
--       | {"tombstone"}
local got = redis.call('HMGET', KEYS[2], 'control', 'tombstone', 'cancel_at', 'stalled_at')
if not got[1] then return { got[2] and 'tombstone' or 'missing' } end
local c = cmsgpack.unpack(got[1])
if c[3] ~= tonumber(ARGV[3]) or c[4] ~= ARGV[4] then return { 'superseded', c[3] } end

local flags = { got[3] and 1 or 0, got[4] and 1 or 0 }
local count = (#ARGV - 14) / 2
local base = tonumber(ARGV[5])
local id = replid()
if count > 0 and base + count - 1 <= c[5] then
  return { 'ok', c[10] == base + count - 1 and c[11] or id_of(c[1], c[2]), flags[1], flags[2], id }
end
if ENDED[c[6]] then return { 'ended', c[6] } end
if base > c[5] + 1 then
  if ARGV[6] ~= '1' then return { 'hole', c[5] } end
  -- What is missing cannot be sent again: one number stays empty, so that readers see a gap.
  c[2] = c[2] + 1
  c[5] = base - 1
end

local now = now_ms()
local seen = string.format('%.0f', now)
local function answer_of(last, status)
  if #KEYS == 3 then return { 'ok', last, flags[1], flags[2], id } end
  local p, part = parent_of(ARGV[2], ARGV[1], ARGV[7], ARGV[11], ARGV[12])
  local rolled = roll(p, part, status, cjson.decode(ARGV[14]), now)
  return { 'ok', last, flags[1], flags[2], id, rolled[1], rolled[2], rolled[3] }
end
if count == 0 then
  redis.call('HSET', KEYS[2], 'seen_at', seen)
  return answer_of(false)
end

if c[7] ~= id then begin_stream(KEYS[1], c, id) end
local first, last
local parts = { '' }
for i = c[5] - base + 2, count do
  local kind, data = ARGV[13 + 2 * i], ARGV[14 + 2 * i]
  last = add(KEYS[1], c, ARGV[7], kind, data)
  first = first or last
  parts[#parts + 1] = kind
  parts[#parts + 1] = data
end
c[5] = base + count - 1
c[10], c[11] = c[5], last
if ARGV[9] ~= '' then c[6] = ARGV[9] end
redis.call('HSET', KEYS[2], 'control', cmsgpack.pack(c), 'state', ARGV[8], 'seen_at', seen)
if got[4] then redis.call('HDEL', KEYS[2], 'stalled_at') end
if ARGV[13] ~= '' then redis.call('HSET', KEYS[2], 'file', ARGV[13]) end
if ARGV[10] ~= '0' then
  redis.call('ZADD', KEYS[3], string.format('%.0f', now + ARGV[10]), ARGV[2])
end
if ENDED[c[6]] then expire_ended(KEYS, ARGV[2], ARGV[11], ARGV[12], now) end
parts[1] = first
redis.call(PUBLISH, ARGV[1], table.concat(parts, '\n'))
return answer_of(last, ARGV[9] ~= '' and ARGV[9] or nil)
