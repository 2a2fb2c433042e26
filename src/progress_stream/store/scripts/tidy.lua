-- tidy.lua: see to some parts of a job that was cancelled or has ended: what is open of them is cancelled, and with the job's end
-- each gets as long to live as the job itself.
-- KEYS  1 parent's events  2 parent's state  3 due (sorted set)  4 parts (hash)  5 outbox (hash)  6... events, state of each part
-- ARGV  1 parent's channel  2 parent  3 history  4 events TTL  5 state TTL  6 ms until a part's files are looked after
--       7 first part's number  8 `cancelling` event data before the attempt  9 and after it  10 `cancelled` event data without attempt
--       (in these the part's number is to be put for "\1")
-- OUT   {"seen", follow-up due (0|1), ended (0|1)}
local now = now_ms()
local p = {
  job = ARGV[2], channel = ARGV[1], events = KEYS[1], state = KEYS[2], parts = KEYS[4], due = KEYS[3], history = ARGV[3],
  events_ttl = ARGV[4], state_ttl = ARGV[5],
}
local first = tonumber(ARGV[7])
local answer = { 0, 0, 0 }
local life = redis.call('PTTL', KEYS[2])

local function cancel(n, events_key, state_key)
  local got = redis.call('HMGET', state_key, 'control', 'cancel_at')
  if not got[1] then return end
  local c = cmsgpack.unpack(got[1])
  if ENDED[c[6]] or got[2] then return end
  local id = replid()
  if c[7] ~= id then begin_stream(events_key, c, id) end
  local kind, data
  if c[6] == 'running' then
    kind = 'cancelling'
    data = string.gsub(ARGV[8], '\1', n) .. string.format('%d', c[3]) .. string.gsub(ARGV[9], '\1', n)
    redis.call('HSET', state_key, 'cancel_at', string.format('%.0f', now))
  else
    kind = 'cancelled'
    data = string.gsub(ARGV[10], '\1', n)
    c[6] = kind
    redis.call('HSET', state_key, 'end', data)
  end
  local event = add(events_key, c, ARGV[3], kind, data)
  redis.call('HSET', state_key, 'control', cmsgpack.pack(c))
  redis.call(PUBLISH, ARGV[1] .. '~' .. n, event .. '\n' .. kind .. '\n' .. data)
  if kind == 'cancelled' then answer = roll(p, n, 'cancelled', {}, now) end
end

for i = 0, (#KEYS - 5) / 2 - 1 do
  local n = string.format('%d', first + i)
  local events_key, state_key = KEYS[6 + 2 * i], KEYS[7 + 2 * i]
  cancel(n, events_key, state_key)
  if life > 0 then
    redis.call('PEXPIRE', state_key, life)
    redis.call('PEXPIRE', events_key, math.min(life, ARGV[4] * 1000))
    redis.call('ZADD', KEYS[3], 'NX', string.format('%.0f', now + ARGV[6]), ARGV[2] .. '~' .. n)
  end
end
if life > 0 then
  redis.call('PEXPIRE', KEYS[4], life)
  redis.call('PEXPIRE', KEYS[5], life)
end
return { 'seen', answer[2], answer[3] }
