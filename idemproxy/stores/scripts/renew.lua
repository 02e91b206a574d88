-- ARGV: token, lease, ttl.
local token, lease, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local raw = redis.call('GET', RECORD)
if raw and unreadable(raw) then return found(raw) end
if is_dead(token) then return {DEAD} end
if not raw then return without_record() end
if token_of(raw) ~= token or state_of(raw) ~= PROCESSING then return refused(raw, token) end
local r = parse(raw)
prolong(r, lease, ttl)
own(r, lease)
return {RENEWED, r.version}
