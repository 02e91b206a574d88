-- For the commands that own an operation.

local function own(r, lease)
    r.lease_until = now + lease
    keep(r)
    -- A lock that is there is our own, of a lease whose record was lost: it begins anew.
    if not write('SET', LOCK, r.token, 'NX', 'PX', lease) then
        write('SET', LOCK, r.token, 'PX', lease)
    end
    return {CLAIMED, r.attempt, r.version}
end

-- The record whose lease runs on. Where it had lapsed, somebody may have seen so: the version tells them.
local function prolong(r, lease, ttl)
    if lease_left() == 0 then r.version = r.version + 1 end
    r.expires = math.max(r.expires, now + lease + ttl)
end

local function again(raw, lease, ttl)
    local state = state_of(raw)
    if state == RELEASED then return {DEAD} end
    if state ~= PROCESSING then return found(raw) end
    local r = parse(raw)
    if lease_left() > 0 then return {CLAIMED, r.attempt, r.version} end
    prolong(r, lease, ttl)
    return own(r, lease)
end
