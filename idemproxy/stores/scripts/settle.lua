-- ARGV[3..]: act, the version seen, ttl, and for `complete`: state, answer, payload.
local act, seen_version, ttl = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local KEPT = 2

local raw = redis.call('GET', RECORD)
if not raw then return without_record() end
if unreadable(raw) then return found(raw) end
if state_of(raw) == RELEASED then return {MISSING} end
if version_of(raw) ~= seen_version or (state_of(raw) == PROCESSING and lease_left() > 0) then return found(raw) end
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
    ended(r, tonumber(ARGV[6]), 0, KEPT, ARGV[7], ARGV[8], ttl)
    r.token = string.rep('\0', 16)
end
leave(r)
return {DONE, r.state}
