-- The peer: idempotency keys in nginx, as a careful user would write them. One round trip claims a key or finds what is there, the answer
-- is kept for a day, and connections to Redis and to the service are kept open. No leases, no fencing, no unknown outcome, no waiting.

local redis = require "nginx.redis"

local DAY = 86400
local RUNNING, DONE = "R", "D"

local function say(status, slug)
   ngx.status = status
   ngx.header.content_type = "application/problem+json"
   ngx.print('{"type":"urn:problem:', slug, '","status":', status, "}\n")
   return ngx.exit(status)
end

local function connected()
   local store = redis:new()
   store:set_timeout(1000)
   local ok, why = store:connect("127.0.0.1", tonumber(ngx.var.redis_port))
   if not ok then
      ngx.log(ngx.ERR, "redis: ", why)
      return nil
   end
   return store
end

local key = ngx.var.http_idempotency_key
if not key then return ngx.exec("@service") end

ngx.req.read_body()
local body = ngx.req.get_body_data() or ""
local id = "idem:" .. ngx.md5((ngx.var.http_authorization or "") .. "\n" .. key)
local print_ = ngx.sha1_bin(ngx.req.get_method() .. "\n" .. ngx.var.request_uri .. "\n" .. (ngx.var.http_content_type or "") .. "\n" .. body)

local store = connected()
if not store then return say(503, "store-unavailable") end
local found, why = store:set(id, RUNNING .. print_, "NX", "GET", "EX", DAY)
if not found then
   ngx.log(ngx.ERR, "redis: ", why)
   return say(503, "store-unavailable")
end

if found ~= ngx.null then
   store:set_keepalive(60000, 256)
   if found:sub(2, 21) ~= print_ then return say(422, "key-reused") end
   if found:sub(1, 1) == RUNNING then return say(409, "key-in-flight") end
   ngx.status = tonumber(found:sub(22, 24))
   local split = found:find("\n", 25, true)
   ngx.header.content_type = found:sub(25, split - 1)
   ngx.header["Idempotent-Replayed"] = "true"
   ngx.header.content_length = #found - split
   ngx.print(found:sub(split + 1))
   return
end

local answer = ngx.location.capture("/service" .. ngx.var.request_uri, { method = ngx["HTTP_" .. ngx.req.get_method()], body = body })
if answer.status >= 500 then
   store:del(id)
else
   local kind = answer.header["Content-Type"] or ""
   store:set(id, DONE .. print_ .. answer.status .. kind .. "\n" .. answer.body, "EX", DAY)
end
store:set_keepalive(60000, 256)
ngx.status = answer.status
for name, value in pairs(answer.header) do ngx.header[name] = value end
ngx.header.content_length = #answer.body
ngx.print(answer.body)
