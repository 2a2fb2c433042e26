-- read.lua: the server's role, the job and its stream from a position on, all of one moment.
-- KEYS  1 events (stream)  2 state (hash)
-- ARGV  1 position, inclusive ("": no entries)  2 most entries  3 bytes of entries that are enough (0: as many as there are)
-- OUT   {role, replid, {control, tombstone, state, seen_at, stalled_at, cancel_at, end, file, confirmed, fingerprint, spread}, entries, now}
--       control and spread as JSON; '' for what is not ours
local info = redis.call('INFO', 'replication')
local role = string.match(info, 'role:(%a+)') or ''
local replid = string.match(info, 'master_replid:(%x+)') or ''

-- Others can write here too: what is not ours must not end a round trip in which other jobs are read.
local NOT_OURS = ''
local function json_of(packed)
  local read, value = pcall(cmsgpack.unpack, packed)
  local said, json = pcall(cjson.encode, value)
  return read and said and json or NOT_OURS
end

local got = redis.pcall('HMGET', KEYS[2], 'control', 'tombstone', 'state', 'seen_at', 'stalled_at', 'cancel_at', 'end', 'file',
  'confirmed', 'fingerprint', 'spread')
if got.err then got = { NOT_OURS, false, NOT_OURS, false, false, false, false, false, false, false, false } end
if got[1] then got[1] = json_of(got[1]) end
if got[11] then got[11] = json_of(got[11]) end

-- A few entries show how large the others may be: one answer holds a thousand small ones, and not a thousand huge ones.
local FEW = 16
local function bytes_of(entry)
  local bytes = 0
  for _, value in ipairs(entry[2]) do bytes = bytes + #value end
  return bytes
end

local function read(from, most, enough)
  local entries, bytes = {}, 0
  local count = enough > 0 and math.min(most, FEW) or most
  while count > 0 do
    local some = redis.pcall('XRANGE', KEYS[1], from, '+', 'COUNT', count)
    if some.err then break end
    for _, entry in ipairs(some) do
      entries[#entries + 1] = entry
      bytes = bytes + bytes_of(entry)
    end
    if #some < count then break end
    from = '(' .. some[#some][1]
    count = math.min(most - #entries, math.floor((enough - bytes) * #entries / math.max(bytes, 1)))
  end
  return entries
end

local entries = {}
if ARGV[1] ~= '' then entries = read(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])) end
local t = redis.call('TIME')
return { role, replid, got, entries, t[1] * 1000 + math.floor(t[2] / 1000) }
