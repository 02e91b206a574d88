// node node_server.mjs PORT LOG: answers each request with its target, once its body came.
import fs from "node:fs";
import http from "node:http";

const [port, log] = process.argv.slice(2);
const file = fs.openSync(log, "a");
const note = (line) => fs.writeSync(file, line + "\n", null, "latin1");

function answer(request, response) {
  note(`${request.method} ${request.url}`);
  request.on("error", () => {});
  request.on("end", () => response.end(request.url));
  request.resume();
}

const server = http.createServer({ keepAliveTimeout: 600_000, requestTimeout: 0, headersTimeout: 0 }, answer);
server.on("checkExpectation", (request, response) => {
  note(`${request.method} ${request.url}`);
  response.writeHead(417, { "Content-Length": "0" });
  response.end();
});
server.on("clientError", (error, socket) => {
  // A body that ends too early belongs to a request that was noted at its head.
  if (String(error.code).startsWith("HPE_") && error.code !== "HPE_INVALID_EOF_STATE") note("? ?");
  if (socket.writable) socket.write("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  socket.destroy();
});
server.listen(Number(port), "127.0.0.1");
