-- complete and mark_unknown. ARGV[3..]: token, state, reason, ttl, flag of a kept answer, answer, payload, and what a missing record
-- is written from, without its times ('' where it may not be).
local token, state, reason, ttl = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local raw = redis.call('GET', RECORD)
local r
if raw and unreadable(raw) then return found(raw) end
if is_dead(token) then return {DEAD} end
if raw then
    r = parse(raw)
else
    if ARGV[10] == '' or locked_by_other(token) then return without_record() end
    raw = ARGV[10]
    r = parse(raw)
    r.created, r.lease_until = now, now
end
if r.token ~= token then return refused(raw, token) end
if r.state == COMPLETED or r.state == FAILED then
    if state == UNKNOWN then return found(raw) end
    return {DONE, r.state}
end
if r.state == RELEASED then return {DEAD} end
if r.state == UNKNOWN and state == UNKNOWN then return {DONE, UNKNOWN} end
ended(r, state, reason, tonumber(ARGV[7]), ARGV[8], ARGV[9], ttl)
leave(r)
return {DONE, state}
