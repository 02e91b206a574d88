-- KEYS: the newest operation of a retry marker. ARGV: what must be named there (empty: nothing), what to name, for how long.
local NEWEST = 9

local named = redis.call('GET', KEYS[1])
if (named or '') ~= ARGV[1] then return {NEWEST, named} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {NEWEST, ARGV[2]}
