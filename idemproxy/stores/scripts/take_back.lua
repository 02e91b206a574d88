-- ARGV[3..]: token, lease.
local token, lease = ARGV[3], tonumber(ARGV[4])

-- The other dead tokens live on as they are; the key lives as long as the last of them.
local function bury()
    local kept, ends, last = {}, now + lease, now + lease
    local tokens = redis.call('GET', TOKENS) or ''
    for at = 1, #tokens, TOKEN_AND_TIME do
        local other, time = struct.unpack('>c16I8', tokens, at)
        if other == token then
            ends = math.max(ends, time)
        elseif time > now then
            kept[#kept + 1] = tokens:sub(at, at + TOKEN_AND_TIME - 1)
        end
        last = math.max(last, time)
    end
    kept[#kept + 1] = struct.pack('>c16I8', token, ends)
    write('SET', TOKENS, table.concat(kept), 'PX', last - now)
end

local raw = redis.call('GET', RECORD)
if raw and unreadable(raw) then return found(raw) end
local locked = redis.call('GET', LOCK) == token
bury()
if raw and token_of(raw) == token and state_of(raw) == PROCESSING then
    local r = parse(raw)
    freed(r, math.max(lease, r.expires - now))
    leave(r)
elseif locked then
    write('DEL', LOCK)
    publish()
end
return {MISSING}
