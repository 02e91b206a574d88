-- For the commands that end an operation. ARGV: the channel of ends, the record's id, then the command's own.

local function publish()
    -- Who waits polls too, so that a notice that cannot be sent is no failure of the end.
    redis.pcall('PUBLISH', ARGV[1], ARGV[2])
end

local function leave(r)
    keep(r)
    write('DEL', LOCK)
    publish()
end

-- `answer` is status and lengths (8 bytes) as record.py packs them; `payload` is the answer's head, trailers and body.
local function ended(r, state, reason, kept, answer, payload, ttl)
    local rule_bytes, recipe_bytes = struct.unpack('>I2I2', r.rest, 33)
    r.state, r.reason = state, reason
    r.flags = r.flags % 2 + kept
    r.version = r.version + 1
    r.updated, r.expires = now, now + ttl
    r.rest = r.rest:sub(1, 36) .. answer .. r.rest:sub(45, 44 + rule_bytes + recipe_bytes) .. payload
end

local function remnant(r, ttl)
    ended(r, RELEASED, 0, 0, NO_ANSWER, '', ttl)
    r.flags = 0
end

local function freed(r, ttl)
    if r.flags % 2 == MAY_HAVE_RUN then
        ended(r, UNKNOWN, RELEASED_AFTER_SEND, 0, NO_ANSWER, '', math.max(ttl, r.expires - now))
    else
        remnant(r, ttl)
    end
end
