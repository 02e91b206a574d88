-- wrk's script: what it sends, and what came back. Arguments: the method, the path, the body ("" is none), `each` (a key of its own for each
-- request) or `one` (one key for all), the key or its beginning, the status of a good answer, its body ("" is any), and how many times a
-- good answer says Idempotent-Replayed.

local threads = {}

function setup(thread)
   thread:set("number", #threads)
   table.insert(threads, thread)
end

function init(args)
   local method, path, sent, each, key = args[1], args[2], args[3], args[4] == "each", args[5]
   local status, body, marks = tonumber(args[6]), args[7], tonumber(args[8])
   local head = method .. " " .. path .. " HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer sk_test_1\r\n"
   local rest = "\r\n"
   if sent ~= "" then
      head = head .. "Content-Type: application/json\r\nIdempotency-Key: "
      rest = "\r\nContent-Length: " .. #sent .. "\r\n\r\n" .. sent
   end
   local one = head .. (sent ~= "" and key or "") .. rest
   local asked = 0
   good, bad = 0, 0

   function request()
      if not each or sent == "" then return one end
      asked = asked + 1
      return head .. key .. "-" .. number .. "-" .. asked .. rest
   end

   function response(came, headers, content)
      local replayed = headers["Idempotent-Replayed"] == "true" and 1 or 0
      if came == status and (body == "" or content == body) and replayed == marks then
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
