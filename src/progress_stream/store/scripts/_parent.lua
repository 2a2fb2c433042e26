-- _parent.lua: what a part's scripts do to its parent's bar, in the same step; after _control.lua, in scripts that need it.
-- `spread`, a field of the parent's state, one packed map:
--   total queued running succeeded failed cancelled   parts, and how many of them are where (retrying counts as queued)
--   batches          calls of spread() that are stored       sealed, released   no more parts will come; the actor has returned
--   rows, of         rows done and rows in all, as the parts tell them          known   parts that have told how many rows they are
--   whole            millionths of parts done                 unit, mixed       what the parts count; they count different things
--   by               "rows" or "parts": what the bar shows    dirty, shown_at   more is counted than shown; when it was shown
--   done, of_shown, unit_shown, rate, eta                      the bar as it was shown last, in this attempt
--   began, sampled_at, sampled, weight, moved, updates         what the rate is made from: see reporting/meter.py
--   on_failure, result, after ("": no follow-up, "waiting", "due", "sent", "ended"), first_error
-- A part's record in the hash `parts`: 1 status  2 done  3 total (false)  4 weight (false)  5 millionths  6 sent (0|1)
--   7 number of the step that waits for it (false)
local PLACE = { queued = 'queued', retrying = 'queued', running = 'running', succeeded = 'succeeded', failed = 'failed', cancelled = 'cancelled' }
local MILLION = 1000000
-- The parent's own rate of progress: as many parts as may report, its stream gets ten such events a second.
local SHOW_MS = 100

local function spread_of(state)
  local packed = redis.call('HGET', state, 'spread')
  return packed and cmsgpack.unpack(packed) or nil
end

-- RFC 3339 from days since 1970, by the civil calendar (400 years are 146,097 days).
local function text_of(ms)
  local seconds = math.floor(ms / 1000)
  local z = math.floor(seconds / 86400) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local rest = seconds % 86400
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, doy - math.floor((153 * mp + 2) / 5) + 1,
    math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60, ms % 1000)
end

local function number(value)
  if value == math.floor(value) and math.abs(value) < 2 ^ 53 then return string.format('%.0f', value) end
  return string.format('%.14g', value)
end

-- What a part has done is never taken back, whatever its next attempt begins with.
local function count_rows(s, r, done, total, unit)
  if unit and s.unit and unit ~= s.unit then s.mixed = true end
  s.unit = s.unit or unit
  if total and not r[4] and total > (r[3] or -1) then
    if not r[3] then s.known = s.known + 1 end
    s.of = s.of + total - (r[3] or 0)
    r[3] = total
  end
  if not done then return end
  local reached = done
  if r[4] then
    if total and total > 0 and total ~= r[4] then reached = math.floor(done / total * r[4]) end
    reached = math.min(reached, r[4])
  end
  if reached > r[2] then
    s.rows = s.rows + reached - r[2]
    r[2] = reached
  end
  local whole = r[4] or r[3]
  local share = whole and whole > 0 and math.min(MILLION, math.floor(r[2] / whole * MILLION)) or 0
  if share > r[5] then
    s.whole = s.whole + share - r[5]
    r[5] = share
  end
end

-- A part that has succeeded is done, also where it stopped counting before its end.
local function count_all_rows(s, r)
  local all = r[4] or r[3]
  if all and all > r[2] then
    s.rows = s.rows + all - r[2]
    r[2] = all
  end
  s.whole = s.whole + MILLION - r[5]
  r[5] = MILLION
end

local function measure(s, now, done)
  if not s.began then
    s.began, s.sampled_at, s.sampled, s.weight, s.moved, s.updates = now, now, done, 0, 0, 0
    return
  end
  local seconds, moved = (now - s.sampled_at) / 1000, done - s.sampled
  if seconds <= 0 then return end
  if moved > 0 then s.updates = s.updates + 1 end
  local fading = math.exp(-seconds / 10)
  s.weight, s.moved = s.weight * fading + seconds, s.moved * fading + moved
  s.sampled_at, s.sampled = now, done
end

-- By rows as soon as all parts have told how many, and not before the bar could only go forward with it.
local function choose(s)
  if s.by == 'rows' or s.mixed or not s.sealed or s.total == 0 or s.known < s.total or s.of == 0 then return end
  if s.rows / s.of >= s.whole / (MILLION * s.total) and s.rows >= (s.done or 0) then
    s.by, s.began = 'rows', nil
  end
end

local function look_at_bar(s, now)
  choose(s)
  local done, of, unit
  if s.by == 'rows' then
    done, of, unit = s.rows, s.of, s.unit or 'rows'
  else
    done, of, unit = math.floor(s.whole / (MILLION / 100)) / 100, s.total, 'parts'
  end
  s.done = math.max(done, s.done or 0)
  s.of_shown, s.unit_shown = math.max(of, s.done), unit
  measure(s, now, s.done)
  -- Without a measurement the last rate stands, as it does with whoever folds the events.
  s.eta = nil
  if s.weight > 0 then
    s.rate = tonumber(string.format('%.4g', s.moved / s.weight))
    if s.rate > 0 and now - s.began >= 5000 and s.updates >= 3 then
      s.eta = math.floor((s.of_shown - s.done) / s.rate * 10 + 0.5) / 10
    end
  end
end

-- The parent's control, or nil where it has ended or is gone: then nothing of it is touched.
local function open_parent(state)
  local packed = redis.call('HGET', state, 'control')
  if not packed then return nil end
  local c = cmsgpack.unpack(packed)
  if ENDED[c[6]] then return nil end
  return c
end

local function bar_of(s)
  local text = string.format('"done":%s,"total":%s,"unit":%s', number(s.done), number(s.of_shown), cjson.encode(s.unit_shown))
  if s.rate then text = text .. ',"rate":' .. number(s.rate) end
  if s.eta then text = text .. ',"eta":' .. number(s.eta) end
  return text .. string.format(',"parts":{"total":%d,"queued":%d,"running":%d,"succeeded":%d,"failed":%d,"cancelled":%d}',
    s.total, s.queued, s.running, s.succeeded, s.failed, s.cancelled)
end

-- p: parent = {job, channel, events, state, parts, due, history, events_ttl, state_ttl}
local function tell(p, c, now, kind, fields)
  local id = replid()
  if c[7] ~= id then begin_stream(p.events, c, id) end
  local attempt = c[3] > 0 and string.format(',"attempt":%d', c[3]) or ''
  local data = string.format('{"job":"%s","type":"%s","at":"%s"%s%s}', p.job, kind, text_of(now), attempt, fields)
  local event = add(p.events, c, p.history, kind, data)
  redis.call(PUBLISH, p.channel, event .. '\n' .. kind .. '\n' .. data)
  return data
end

local function show(p, s, c, now, kind, fields)
  look_at_bar(s, now)
  s.dirty, s.shown_at = false, now
  tell(p, c, now, kind, ',' .. fields .. bar_of(s))
  redis.call('HSET', p.state, 'seen_at', string.format('%.0f', now))
  redis.call('HDEL', p.state, 'stalled_at')
end

local function keep(p, s, c)
  redis.call('HSET', p.state, 'spread', cmsgpack.pack(s), 'control', cmsgpack.pack(c))
end

-- Ends the parent. The sweep then sees to its parts: at once, for what is open of them has nobody else.
local function finish(p, c, now, kind, fields)
  c[6] = kind
  redis.call('HSET', p.state, 'end', tell(p, c, now, kind, fields))
  expire(p.events, p.state, p.events_ttl, p.state_ttl)
  redis.call('ZADD', p.due, string.format('%.0f', now), p.job)
end

-- What follows once nobody works on any part: the follow-up, or the end.
local function decide(p, s, c, now)
  if not s.released or s.queued + s.running > 0 or s.after == 'due' or s.after == 'sent' then return end
  if redis.call('HEXISTS', p.state, 'cancel_at') == 1 then
    finish(p, c, now, 'cancelled', ',"reason":"cancelled on request"')
  elseif s.failed > 0 and s.on_failure == 'fail' then
    local words = string.format('%d of %d parts failed', s.failed, s.total)
    finish(p, c, now, 'failed', ',"error":{"type":"PartFailed","message":' .. cjson.encode(words) .. '}')
  elseif s.after == 'waiting' then
    s.after = 'due'
    -- Whoever reads this in the answer sends it; the sweep does where that one dies.
    redis.call('ZADD', p.due, string.format('%.0f', now + 5000), p.job)
  else
    finish(p, c, now, 'succeeded', ',' .. s.result)
  end
end

-- The follow-up's end is the job's.
local function decide_by_follow_up(p, s, c, now, status, word)
  s.after = 'ended'
  if word.file then redis.call('HSET', p.state, 'file', word.file) end
  if status == 'succeeded' then
    finish(p, c, now, status, ',"result":' .. (word.result or 'null'))
  elseif status == 'failed' then
    finish(p, c, now, status, ',"error":' .. (word.error or '{"type":"Failed","message":"the follow-up failed"}'))
  else
    finish(p, c, now, status, ',"reason":"its follow-up was cancelled"')
  end
end

-- A step that waited for one which did not succeed never comes; nor do those that wait for it.
local function cancel_waiting(p, s, c, n, now)
  while n do
    local name = string.format('%d', n)
    local part = string.sub(p.state, 1, -7) .. '~' .. name
    local packed, record = redis.call('HGET', part .. ':state', 'control'), redis.call('HGET', p.parts, name)
    if not packed or not record then return end
    local own, r = cmsgpack.unpack(packed), cmsgpack.unpack(record)
    if ENDED[own[6]] or r[1] ~= 'queued' then return end
    own[6], r[1] = 'cancelled', 'cancelled'
    local data = string.format('{"job":"%s~%s","type":"cancelled","at":"%s","reason":"the step before it did not succeed"}', p.job, name,
      text_of(now))
    local event = add(part .. ':events', own, p.history, 'cancelled', data)
    redis.call('HSET', part .. ':state', 'control', cmsgpack.pack(own), 'end', data)
    redis.call(PUBLISH, p.channel .. '~' .. name, event .. '\ncancelled\n' .. data)
    redis.call('HSET', p.parts, name, cmsgpack.pack(r))
    s.queued, s.cancelled = s.queued - 1, s.cancelled + 1
    show(p, s, c, now, 'part', string.format('"part":%s,"state":"cancelled",', name))
    n = r[7]
  end
end

-- One word of a part: its status after (nil: as it was), what it has counted, why it failed.
-- OUT {moved (0|1), follow-up due (0|1), ended (0|1)}
local function roll(p, n, status, word, now)
  local quiet = { 0, 0, 0 }
  local s = spread_of(p.state)
  local c = s and open_parent(p.state)
  if not c then return quiet end
  if n == '0' then
    if not status or not ENDED[status] or (s.after ~= 'due' and s.after ~= 'sent') then return quiet end
    decide_by_follow_up(p, s, c, now, status, word)
    keep(p, s, c)
    return { 1, 0, 1 }
  end
  local packed = redis.call('HGET', p.parts, n)
  if not packed then return quiet end
  local r = cmsgpack.unpack(packed)
  if ENDED[r[1]] then return quiet end
  local rows, whole, of = s.rows, s.whole, s.of
  count_rows(s, r, word.done, word.total, word.unit)
  local moved = status and status ~= r[1]
  if moved then
    s[PLACE[r[1]]] = s[PLACE[r[1]]] - 1
    s[PLACE[status]] = s[PLACE[status]] + 1
    r[1] = status
    if status == 'succeeded' then count_all_rows(s, r) end
    local fields = string.format('"part":%s,"state":"%s",', n, status)
    if word.error then fields = fields .. '"error":' .. word.error .. ',' end
    show(p, s, c, now, 'part', fields)
    if ENDED[status] then
      if status ~= 'succeeded' then cancel_waiting(p, s, c, r[7], now) end
      decide(p, s, c, now)
    end
  else
    s.dirty = s.dirty or rows ~= s.rows or whole ~= s.whole or of ~= s.of
    moved = s.dirty and now - (s.shown_at or 0) >= SHOW_MS
    if moved then show(p, s, c, now, 'progress', '') end
  end
  redis.call('HSET', p.parts, n, cmsgpack.pack(r))
  keep(p, s, c)
  return { moved and 1 or 0, s.after == 'due' and 1 or 0, ENDED[c[6]] and 1 or 0 }
end

-- The parent of the part in KEYS 1-3, whose keys are KEYS 4-6: events, state, parts.
local function parent_of(job, channel, history, events_ttl, state_ttl)
  local n = string.match(job, '~(%d+)$')
  local cut = #n + 2
  return {
    job = string.sub(job, 1, -cut), channel = string.sub(channel, 1, -cut), events = KEYS[4], state = KEYS[5], parts = KEYS[6],
    due = KEYS[3], history = history, events_ttl = events_ttl, state_ttl = state_ttl,
  }, n
end
