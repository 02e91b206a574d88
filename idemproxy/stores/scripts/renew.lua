-- ARGV: token, lease, ttl.
local token, lease, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local raw = redis.call('GET', RECORD)
if not raw then return without_record() end
if unreadable(raw) then return found(raw) end
if token_of(raw) ~= token or state_of(raw) ~= PROCESSING then return refused(raw, token) end
local r = parse(raw)
if lease_left() == 0 then r.version = r.version + 1 end
r.expires = math.max(r.expires, now + lease + ttl)
own(r, lease)
return {RENEWED, r.version}
