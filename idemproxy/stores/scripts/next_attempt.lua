-- ARGV: token, whether an earlier attempt may have run (1 or 0), lease, ttl.
local token, may_have_run, lease, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local raw = redis.call('GET', RECORD)
if raw and unreadable(raw) then return found(raw) end
if is_dead(token) then return {DEAD} end
if not raw then return without_record() end
if token_of(raw) ~= token or state_of(raw) ~= PROCESSING then return refused(raw, token) end
local r = parse(raw)
prolong(r, lease, ttl)
r.attempt = r.attempt + 1
if may_have_run == 1 and r.flags % 2 == 0 then r.flags = r.flags + MAY_HAVE_RUN end
return own(r, lease)
