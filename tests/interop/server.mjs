// The small site of apps.py for Node, with trailers: `node server.mjs PORT`.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const OF_ONE_HOP = new Set(["connection", "keep-alive", "te", "transfer-encoding"]);
const pieces = Array.from({ length: 20 }, (_, number) => `piece ${number}\n`.repeat(100));
const big = Buffer.from(Uint8Array.from({ length: 2 ** 21 }, (_, at) => at % 256));

function answer(request, response, body) {
  switch (request.url) {
    case "/hello":
      return response.writeHead(200, { "Content-Type": "text/plain", "Content-Length": 5, "X-CaSe": "kept" }).end("hello");
    case "/stream":
      response.writeHead(200, { "Content-Type": "text/plain" });
      for (const piece of pieces) response.write(piece);
      return response.end();
    case "/trailers":
      response.writeHead(200, { "Content-Type": "text/plain", Trailer: "X-Sum, X-Count" });
      for (const piece of pieces) response.write(piece);
      response.addTrailers({ "X-Sum": "abc", "X-Count": "20" });
      return response.end();
    case "/big":
      return response.writeHead(200, { "Content-Type": "application/octet-stream", "Content-Length": big.length }).end(big);
    case "/cookies":
      return response.writeHead(200, { "Set-Cookie": ["first=1; Path=/", "second=2; Path=/; HttpOnly"], "Content-Length": 3 }).end("set");
    case "/none":
      return response.writeHead(204, { "X-Empty": "" }).end();
    case "/unchanged":
      return response.writeHead(304, { ETag: '"v1"' }).end();
    case "/redirect":
      return response.writeHead(303, "Over There", { Location: "/hello", "Content-Length": 0 }).end();
    case "/hints":
      response.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" });
      return response.writeHead(200, { "Content-Length": 5 }).end("hints");
    case "/teapot":
      return response.writeHead(418, "Short And Stout", { "Content-Length": 6 }).end("short\n");
    default: {
      const fields = [];
      for (let at = 0; at < request.rawHeaders.length; at += 2) {
        if (!OF_ONE_HOP.has(request.rawHeaders[at].toLowerCase())) fields.push(request.rawHeaders.slice(at, at + 2));
      }
      const sha256 = createHash("sha256").update(body).digest("hex");
      const echoed = JSON.stringify({
        method: request.method, target: request.url, fields, length: body.length, sha256, trailers: request.rawTrailers,
      });
      return response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(echoed) }).end(echoed);
    }
  }
}

const server = createServer((request, response) => {
  const read = [];
  request.on("data", (piece) => read.push(piece));
  request.on("end", () => answer(request, response, Buffer.concat(read)));
});
server.keepAliveTimeout = 600_000;
server.listen(Number(process.argv[2]), "127.0.0.1", () => console.log("node listening"));
