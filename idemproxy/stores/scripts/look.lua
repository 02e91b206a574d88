-- ARGV: the most bytes of a record that are given whole.
local raw = redis.call('GET', RECORD)
if not raw then return without_record() end
if unreadable(raw) then return found(raw) end
if state_of(raw) == RELEASED then return {MISSING} end
return found(raw, tonumber(ARGV[1]))
