-- unsent.lua: the messages of parts that no broker is known to have and that nobody has begun.
-- KEYS  1 parts (hash)  2 outbox (hash)
-- ARGV  1 first part's number  2 last part's number
-- OUT   {number, message, number, message, ...}
local out = {}
for n = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local name = string.format('%d', n)
  local packed = redis.call('HGET', KEYS[1], name)
  local r = packed and cmsgpack.unpack(packed)
  if r and r[6] == 0 and r[1] == 'queued' then
    local message = redis.call('HGET', KEYS[2], name)
    if message then
      out[#out + 1] = name
      out[#out + 1] = message
    end
  end
end
return out
