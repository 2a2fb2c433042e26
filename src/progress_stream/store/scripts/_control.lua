-- _control.lua: what every script that writes shares; put before each of them, after one line that says what PUBLISH is: the command of
-- that name, or SPUBLISH in a Cluster.
-- `control` is one packed field, read and written as a whole: one hash field for each value cost 15-19 us an append
-- against 9-12 (Redis CPU, one core).
--   1 epoch  2 n  3 attempt  4 nonce  5 sequence  6 status  7 replid  8 born epoch  9 born n
--   10 answered sequence  11 answered id  12 nonces of earlier attempts  13 starts since the last one that ended an attempt
local ENDED = { succeeded = true, failed = true, cancelled = true }

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- %.0f: `..` would print a number of 15 digits and more as 1.7e+12.
local function id_of(epoch, n) return string.format('%.0f-%.0f', epoch, n) end

local function replid()
  local ok, info = pcall(redis.call, 'INFO', 'replication')
  if not ok then return '' end
  local _, stop = string.find(info, 'master_replid:', 1, true)
  if not stop then return '' end
  return string.sub(info, stop + 1, stop + 40)
end

-- Two servers promoted from one ancestor under clocks that are behind must not choose the same epoch: hence the replid's
-- first 16 bits.
local function next_epoch(old, id)
  return math.max(now_ms(), old + 1 + (tonumber(string.sub(id, 1, 4), 16) or 0))
end

local function begin_stream(key, c, id)
  c[1] = next_epoch(c[1], id)
  c[7] = id
end

-- How Redis says that somebody else put an entry with a later id there, the last of all ids, or a key of another kind.
local TAKEN_OVER = { 'equal or smaller', 'exhausted', 'WRONGTYPE' }

-- False: the stream is gone, or takes no entry of ours any more. A job must not wait for ever for that.
local function add_to(key, maxlen, id, kind, data)
  local done = redis.pcall('XADD', key, 'NOMKSTREAM', 'MAXLEN', '~', maxlen, id, 't', kind, 'd', data)
  if not done or not done.err then return done end
  for _, words in ipairs(TAKEN_OVER) do
    if string.find(done.err, words, 1, true) then return false end
  end
  return error(done)
end

-- Appends one entry and counts it. A stream that is gone although it had entries begins a new epoch.
local function add(key, c, maxlen, kind, data)
  local n = c[2] + 1
  local id = id_of(c[1], n)
  local done = c[2] > 0 and c[8] > 0 and add_to(key, maxlen, id, kind, data)
  if not done then
    if c[8] > 0 then
      begin_stream(key, c, c[7])
    end
    redis.call('DEL', key)
    id = id_of(c[1], n)
    redis.call('XADD', key, id, 't', kind, 'd', data)
    c[8], c[9] = c[1], n
  end
  c[2] = n
  return id
end

local function fresh_control(id)
  return { next_epoch(0, id), 0, 0, '', 0, 'queued', id, 0, 0, 0, '', {}, 0 }
end

local function expire(events, state, events_ttl, state_ttl)
  redis.call('EXPIRE', events, events_ttl)
  redis.call('EXPIRE', state, state_ttl)
end

-- A part lives as long as its parent; a parent's parts are the sweep's to see to, at once.
local function expire_ended(keys, job, events_ttl, state_ttl, now)
  if string.find(job, '~', 1, true) then return end
  expire(keys[1], keys[2], events_ttl, state_ttl)
  if redis.call('HEXISTS', keys[2], 'spread') == 1 then
    redis.call('ZADD', keys[3], string.format('%.0f', now), job)
  end
end
