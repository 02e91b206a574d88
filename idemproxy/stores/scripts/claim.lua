-- ARGV: token, lease, ttl, the record of a first claim without its times.
local token, lease, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local function first(attempt, version)
    local r = parse(ARGV[4])
    r.attempt, r.version = attempt, version
    r.created, r.updated, r.expires = now, now, now + lease + ttl
    return r
end

local raw = redis.call('GET', RECORD)
if raw then
    if unreadable(raw) then return found(raw) end
    if token_of(raw) ~= token and state_of(raw) ~= RELEASED then return found(raw) end
end
if is_dead(token) then return {DEAD} end
if not raw then
    if locked_by_other(token) then return without_record() end
    return own(first(1, 1), lease)
end
if token_of(raw) == token then return again(raw, lease, ttl) end
local r = parse(raw)
return own(first(r.attempt + 1, r.version + 1), lease)
