-- ARGV[3..]: token, ttl.
local token, ttl = ARGV[3], tonumber(ARGV[4])

local raw = redis.call('GET', RECORD)
if not raw then return without_record() end
if unreadable(raw) then return found(raw) end
if token_of(raw) ~= token then return refused(raw, token) end
local r = parse(raw)
if r.state == RELEASED or (r.state == UNKNOWN and r.flags % 2 == MAY_HAVE_RUN) then return {DONE, r.state} end
if r.state ~= PROCESSING then return found(raw) end
freed(r, ttl)
leave(r)
return {DONE, r.state}
