-- What the scripts share. Each command means what stores/semantics.py says, and functions have its names where they do the same;
-- the offsets are those of idempotency/record.py, counted from 1. KEYS: the record, its lock, and the dead
-- tokens (each its 16 bytes, then until when it is dead). Before its first write a script may fail with any error of the server; an
-- error after it says PARTIAL.

local RECORD, LOCK, TOKENS = KEYS[1], KEYS[2], KEYS[3]
local PROCESSING, COMPLETED, FAILED, UNKNOWN, RELEASED = 1, 2, 3, 4, 5
local CLAIMED, FOUND, MISSING, LOCKED, DEAD, RENEWED, DONE, ABRIDGED = 1, 2, 3, 4, 5, 6, 7, 8
local RELEASED_AFTER_SEND = 8
local MAY_HAVE_RUN = 1
local NO_ANSWER = string.rep('\0', 8)
local HEAD_BYTES = 110
-- A record that is larger is given without its answer, so that no small reply waits behind it.
local MOST_BYTES = 65536
local MAGIC = 'I\2'
local FIELDS = '>BBBBI4I8I8I8I8I8c16'
local TOKEN_AND_TIME = 24

local now
do
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local dirty = false

local function write(...)
    if not dirty then
        local reply = redis.call(...)
        dirty = true
        return reply
    end
    local reply = redis.pcall(...)
    if type(reply) == 'table' and reply.err then
        error('PARTIAL ' .. reply.err)
    end
    return reply
end

-- Milliseconds that the lease still runs, 0 when it has lapsed.
local function lease_left()
    local left = redis.call('PTTL', LOCK)
    return left > 0 and left or 0
end

local function is_dead(token)
    local tokens = redis.call('GET', TOKENS)
    if not tokens then return false end
    for at = 1, #tokens, TOKEN_AND_TIME do
        if tokens:sub(at, at + 15) == token then return struct.unpack('>I8', tokens, at + 16) > now end
    end
    return false
end

local function state_of(raw) return raw:byte(3) end
local function token_of(raw) return raw:sub(51, 66) end
local function version_of(raw) return (struct.unpack('>I8', raw, 11)) end

-- An encoding that is not known is given to the caller as it is, who says so: it is never touched, and never "nothing".
local function unreadable(raw)
    if raw:sub(1, 2) ~= MAGIC or #raw < HEAD_BYTES then return true end
    local state = state_of(raw)
    return state < PROCESSING or state > RELEASED
end

local function parse(raw)
    local r = {rest = raw:sub(67)}
    r.state, r.flags, r.on_unknown, r.reason, r.attempt, r.version, r.created, r.updated, r.expires, r.lease_until, r.token =
        struct.unpack(FIELDS, raw, 3)
    return r
end

local function keep(r)
    local head = struct.pack(
        FIELDS, r.state, r.flags, r.on_unknown, r.reason, r.attempt, r.version, r.created, r.updated, r.expires, r.lease_until,
        r.token
    )
    write('SET', RECORD, MAGIC .. head .. r.rest, 'PX', math.max(1, r.expires - now))
end

local function without_record()
    local left = lease_left()
    if left == 0 then return {MISSING} end
    return {LOCKED, left}
end

local function locked_by_other(token)
    return lease_left() > 0 and redis.call('GET', LOCK) ~= token
end

local function without_answer(raw)
    local rule_bytes, recipe_bytes = struct.unpack('>I2I2', raw, 99)
    local flags = string.char(raw:byte(4) % 2)
    return raw:sub(1, 3) .. flags .. raw:sub(5, 102) .. NO_ANSWER .. raw:sub(111, HEAD_BYTES + rule_bytes + recipe_bytes)
end

local function found(raw, most)
    local left = state_of(raw) == PROCESSING and lease_left() or 0
    if #raw <= (most or MOST_BYTES) then return {FOUND, raw, left, now} end
    return {ABRIDGED, without_answer(raw), left, now, #raw}
end

local function refused(raw, token)
    if state_of(raw) ~= RELEASED then return found(raw) end
    return token_of(raw) == token and {DEAD} or {MISSING}
end

local function is_unknown(raw)
    local state = state_of(raw)
    return state == UNKNOWN or (state == PROCESSING and lease_left() == 0)
end
