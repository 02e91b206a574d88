-- For the commands that own an operation.

local function own(r, lease)
    keep(r)
    write('SET', LOCK, r.token, 'PX', lease)
    return {CLAIMED, r.attempt, r.version}
end

local function again(raw, lease, ttl)
    local state = state_of(raw)
    if state == RELEASED then return {DEAD} end
    if state ~= PROCESSING then return found(raw) end
    local r = parse(raw)
    if lease_left() > 0 then return {CLAIMED, r.attempt, r.version} end
    r.version = r.version + 1
    r.expires = math.max(r.expires, now + lease + ttl)
    return own(r, lease)
end
