-- ARGV: token, the token seen, the version seen, lease, ttl.
local token, seen_token, seen_version = ARGV[1], ARGV[2], tonumber(ARGV[3])
local lease, ttl = tonumber(ARGV[4]), tonumber(ARGV[5])

local raw = redis.call('GET', RECORD)
if raw and unreadable(raw) then return found(raw) end
if is_dead(token) then return {DEAD} end
if not raw then return {MISSING} end
if token_of(raw) == token then return again(raw, lease, ttl) end
if state_of(raw) == RELEASED then return {MISSING} end
if not is_unknown(raw) or token_of(raw) ~= seen_token or version_of(raw) ~= seen_version then return found(raw) end
local r = parse(raw)
r.state, r.reason, r.token = PROCESSING, 0, token
r.version, r.attempt = r.version + 1, r.attempt + 1
if r.flags % 2 == 0 then r.flags = r.flags + MAY_HAVE_RUN end
r.updated, r.expires = now, now + lease + ttl
return own(r, lease)
