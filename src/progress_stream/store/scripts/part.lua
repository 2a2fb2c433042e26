-- part.lua: put parts of a job by, each with its message, before any of them is sent; they count once `spread.lua` has closed the call.
-- KEYS  1 parent's events  2 parent's state  3 parts (hash)  4 outbox (hash)  5... events, state of each part
-- ARGV  1 attempt  2 nonce  3 call of spread(), from 1  4 first part's number (0: the follow-up)  5 history
--       6... of each part: message, `queued` event data, packed state, weight ("": not known), number of the step that waits for it
--       ("": none), it waits itself (0|1) for the one before to send it
-- OUT   {"stored"} | {"known"} (this call was closed before) | {"superseded", attempt} | {"ended", status} | {"missing"} | {"tombstone"}
local got = redis.call('HMGET', KEYS[2], 'control', 'tombstone', 'spread')
if not got[1] then return { got[2] and 'tombstone' or 'missing' } end
local c = cmsgpack.unpack(got[1])
if c[3] ~= tonumber(ARGV[1]) or c[4] ~= ARGV[2] then return { 'superseded', c[3] } end
if ENDED[c[6]] then return { 'ended', c[6] } end
local s = got[3] and cmsgpack.unpack(got[3])
if s and s.batches >= tonumber(ARGV[3]) then return { 'known' } end

local id = replid()
local first = tonumber(ARGV[4])
for i = 0, (#KEYS - 4) / 2 - 1 do
  local n = string.format('%d', first + i)
  local message, data, state, weight = ARGV[6 + 6 * i], ARGV[7 + 6 * i], ARGV[8 + 6 * i], ARGV[9 + 6 * i]
  local following, waits = tonumber(ARGV[10 + 6 * i]) or false, tonumber(ARGV[11 + 6 * i])
  local events_key, state_key = KEYS[5 + 2 * i], KEYS[6 + 2 * i]
  -- What an attempt that died before it closed the call left of it.
  redis.call('DEL', events_key, state_key)
  local own = fresh_control(id)
  add(events_key, own, ARGV[5], 'queued', data)
  redis.call('HSET', state_key, 'control', cmsgpack.pack(own), 'state', state, 'confirmed', '1')
  redis.call('HSET', KEYS[4], n, message)
  if n ~= '0' then
    redis.call('HSET', KEYS[3], n, cmsgpack.pack({ 'queued', 0, false, tonumber(weight) or false, 0, waits, following }))
  end
end
return { 'stored' }
