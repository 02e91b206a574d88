-- wrk's script: what it sends, and what came back. Arguments: `get` (no body), `new` (POST, a key of its own for each request) or `same` (POST, one
-- key for all), the key or its beginning, the status and the body of a good answer, and how many times a good answer says Idempotent-Replayed.

local threads = {}

function setup(thread)
   thread:set("number", #threads)
   table.insert(threads, thread)
end

function init(args)
   local each, key = args[1] == "new", args[2]
   local status, body, marks = tonumber(args[3]), args[4], tonumber(args[5])
   local head = "POST /v1/charges HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer sk_test_1\r\n"
      .. "Content-Type: application/json\r\nIdempotency-Key: "
   local rest = "\r\nContent-Length: 14\r\n\r\n{\"amount\":500}"
   local one = head .. key .. rest
   if args[1] == "get" then
      one = "GET /v1/charges HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer sk_test_1\r\n\r\n"
   end
   local sent = 0
   good, bad = 0, 0

   function request()
      if not each then return one end
      sent = sent + 1
      return head .. key .. "-" .. number .. "-" .. sent .. rest
   end

   function response(came, headers, content)
      local replayed = headers["Idempotent-Replayed"] == "true" and 1 or 0
      if came == status and content == body and replayed == marks then
         good = good + 1
      else
         bad = bad + 1
      end
   end
end

function done(summary, latency, requests)
   local all, wrong = 0, 0
   for _, thread in ipairs(threads) do
      all = all + thread:get("good")
      wrong = wrong + thread:get("bad")
   end
   local errors = summary.errors
   io.write(string.format(
      "RESULT {\"good\": %d, \"bad\": %d, \"broken\": %d, \"us\": %d, \"p50\": %d, \"p99\": %d}\n",
      all, wrong, errors.connect + errors.read + errors.write + errors.timeout,
      summary.duration, latency:percentile(50), latency:percentile(99)))
end
