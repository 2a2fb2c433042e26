-- walk.lua: some of the keys of the server that holds a key, whatever their slots.
-- KEYS  1 a key of that server
-- ARGV  1 cursor ("0": from the beginning)  2 pattern  3 keys to look at
-- OUT   {next cursor ("0": that was all), {key, ...}}
return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
