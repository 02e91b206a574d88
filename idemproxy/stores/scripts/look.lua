local raw = redis.call('GET', RECORD)
if not raw then return without_record() end
if unreadable(raw) then return {FOUND, raw, 0} end
if state_of(raw) == RELEASED then return {MISSING} end
return found(raw)
