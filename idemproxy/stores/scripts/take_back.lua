-- ARGV[3..]: token, lease, the remnant of a claim that was never applied, without its times.
local token, lease = ARGV[3], tonumber(ARGV[4])

local raw = redis.call('GET', RECORD)
if not raw then
    if locked_by_other(token) then return {MISSING} end
    local r = parse(ARGV[5])
    r.created, r.updated, r.lease_until, r.expires = now, now, now, now + lease
    leave(r)
    return {MISSING}
end
if unreadable(raw) then return found(raw) end
local r = parse(raw)
local kept = math.max(lease, r.expires - now)
if r.token == token then
    if r.state == PROCESSING then
        freed(r, kept)
        leave(r)
    end
elseif r.state == RELEASED then
    r.token, r.expires = token, now + kept
    leave(r)
elseif is_unknown(raw) then
    r.version = r.version + 1
    keep(r)
    publish()
end
return {MISSING}
