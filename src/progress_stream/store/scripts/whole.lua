-- whole.lua: which server this is, and for which its lists were last known to be whole.
-- KEYS  1 that note
-- OUT   {replid, replid in the note or ""}
return { replid(), redis.call('GET', KEYS[1]) or '' }
