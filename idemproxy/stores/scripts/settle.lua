-- ARGV[3..]: act, the token seen, the version seen, ttl, and for `complete`: state, answer, payload.
local act, seen_token, seen_version, ttl = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local KEPT = 2

local raw = redis.call('GET', RECORD)
if not raw then return without_record() end
if unreadable(raw) then return found(raw) end
if state_of(raw) == RELEASED then return {MISSING} end
if token_of(raw) ~= seen_token or version_of(raw) ~= seen_version then return found(raw) end
if state_of(raw) == PROCESSING and lease_left() > 0 then return found(raw) end
if act == 'delete' then
    write('DEL', RECORD, LOCK)
    publish()
    return {DONE, RELEASED}
end
local r = parse(raw)
if act == 'release' then
    remnant(r, ttl)
else
    if not is_unknown(raw) then return found(raw) end
    ended(r, tonumber(ARGV[7]), 0, KEPT, ARGV[8], ARGV[9], ttl)
    r.token = string.rep('\0', 16)
end
leave(r)
return {DONE, r.state}
