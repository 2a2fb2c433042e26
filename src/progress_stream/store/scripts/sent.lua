-- sent.lua: note that the broker has the messages of these parts (0: of the follow-up), so that no later attempt sends them again.
-- KEYS  1 parent's state  2 parts (hash)
-- ARGV  numbers of parts
-- OUT   how many are noted
local noted = 0
for i = 1, #ARGV do
  if ARGV[i] == '0' then
    local packed = redis.call('HGET', KEYS[1], 'spread')
    if packed then
      local s = cmsgpack.unpack(packed)
      if s.after == 'due' then
        s.after = 'sent'
        redis.call('HSET', KEYS[1], 'spread', cmsgpack.pack(s))
        noted = noted + 1
      end
    end
  else
    local packed = redis.call('HGET', KEYS[2], ARGV[i])
    if packed then
      local r = cmsgpack.unpack(packed)
      r[6] = 1
      redis.call('HSET', KEYS[2], ARGV[i], cmsgpack.pack(r))
      noted = noted + 1
    end
  end
end
return noted
