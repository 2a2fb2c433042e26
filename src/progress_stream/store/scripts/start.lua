-- start.lua: take a job over as its newest attempt, or be refused; nothing in between.
-- KEYS  1 events (stream)  2 state (hash)  3 due (sorted set); of a part also 4 its parent's events  5 its parent's state  6 the parts
-- ARGV  1 channel  2 job  3 nonce  4 event data before the attempt's number  5 and after it  6 packed state  7 history
--       8 ms until stalled is due  9 may create (0|1)  10 most starts
--       11 last epoch and 12 last n this reporter was given (0 0: none)  13 least attempt to give
-- OUT   {"started", attempt, id, cancel requested (0|1)} | {"ended", status} | {"missing"} | {"tombstone"} | {"superseded", attempt} | {"worn", attempt}
--       | {"busy", ms} (a part that somebody else works on, who gave a sign lately: not to be begun twice before then)
local got = redis.call('HMGET', KEYS[2], 'control', 'tombstone', 'cancel_at', 'seen_at', 'spread')
if got[2] then return { 'tombstone' } end
local id = replid()
local c
if got[1] then
  c = cmsgpack.unpack(got[1])
  -- A start repeated because its answer was lost gets that answer; a late repeat must not oust a healthy worker.
  if c[4] == ARGV[3] then return { 'started', c[3], c[11], got[3] and 1 or 0 } end
  for _, nonce in ipairs(c[12]) do
    if nonce == ARGV[3] then return { 'superseded', c[3] } end
  end
  if ENDED[c[6]] then return { 'ended', c[6] } end
  if #KEYS > 3 and c[6] == 'running' then
    local left = (tonumber(got[4]) or 0) + ARGV[8] - now_ms()
    if left > 0 then return { 'busy', math.floor(left) } end
  end
  if c[6] == 'running' and c[13] >= tonumber(ARGV[10]) then return { 'worn', c[3] } end
  if c[7] ~= id then begin_stream(KEYS[1], c, id) end
else
  if ARGV[9] ~= '1' then return { 'missing' } end
  redis.call('DEL', KEYS[1])
  c = fresh_control(id)
  c[1] = math.max(c[1], tonumber(ARGV[11]) + 1)
  c[2] = tonumber(ARGV[12])
end

-- Also where a server that lost its tail holds an older attempt: what its reporter sends again says which one it is.
c[3] = math.max(c[3], tonumber(ARGV[13]) - 1)
if c[4] ~= '' then
  table.insert(c[12], c[4])
  if #c[12] > 32 then table.remove(c[12], 1) end
end
c[13] = c[6] == 'running' and c[13] + 1 or 1
c[3], c[4], c[5], c[6], c[10] = c[3] + 1, ARGV[3], 0, 'running', 0
local data = ARGV[4] .. string.format('%d', c[3]) .. ARGV[5]
local event = add(KEYS[1], c, ARGV[7], 'started', data)
c[11] = event
local now = now_ms()
redis.call('HSET', KEYS[2], 'control', cmsgpack.pack(c), 'state', ARGV[6], 'seen_at', string.format('%.0f', now), 'confirmed', '1')
redis.call('HDEL', KEYS[2], 'stalled_at')
redis.call('ZADD', KEYS[3], string.format('%.0f', now + ARGV[8]), ARGV[2])
redis.call(PUBLISH, ARGV[1], event .. '\nstarted\n' .. data)
if #KEYS > 3 then
  local p, part = parent_of(ARGV[2], ARGV[1], ARGV[7])
  roll(p, part, 'running', {}, now)
elseif got[5] then
  -- The bar begins again with the attempt; the parts go on where they are.
  local s = cmsgpack.unpack(got[5])
  local p = { job = ARGV[2], channel = ARGV[1], events = KEYS[1], state = KEYS[2], parts = '', due = KEYS[3], history = ARGV[7] }
  s.done, s.began, s.rate, s.released = nil, nil, nil, false
  show(p, s, c, now, 'progress', '')
  keep(p, s, c)
end
return { 'started', c[3], event, got[3] and 1 or 0 }
