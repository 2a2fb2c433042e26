-- page.lua: the next rows of one list after a place in it, newest first. By rank, so that a tie of many thousands costs nothing;
-- a place whose job has left the list is put back for as long as it takes to read from it.
-- KEYS  1 list (sorted set)
-- ARGV  1 score of the last row seen ("": from the newest)  2 its member  3 most rows
-- OUT   {member, score, member, score, ...}
local from, stored = 0, true
if ARGV[1] ~= '' then
  stored = redis.call('ZSCORE', KEYS[1], ARGV[2])
  if not stored then redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2]) end
  if stored and tonumber(stored) ~= tonumber(ARGV[1]) then
    from = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[1], '+inf')
  else
    from = redis.call('ZREVRANK', KEYS[1], ARGV[2]) + 1
  end
end
local rows = redis.call('ZREVRANGE', KEYS[1], from, from + ARGV[3] - 1, 'WITHSCORES')
if not stored then redis.call('ZREM', KEYS[1], ARGV[2]) end
return rows
