// Node's fetch: reads a list of {base, asks} as JSON from its argument's file, prints what it saw of each answer.
import { readFileSync } from "node:fs";

async function tour({ base, asks }) {
  const seen = [];
  for (const ask of asks) {
    const body = ask.body === null ? undefined : Buffer.from(ask.body, "base64");
    const streamed = ask.pieces === null ? undefined : new ReadableStream({
      start(out) {
        for (const piece of ask.pieces) out.enqueue(Buffer.from(piece, "base64"));
        out.close();
      },
    });
    const options = { method: ask.method, headers: ask.fields, body: streamed ?? body, redirect: "manual" };
    if (streamed !== undefined) options.duplex = "half";
    const answer = await fetch(base + ask.target, options);
    const got = Buffer.from(await answer.arrayBuffer());
    seen.push({ status: answer.status, reason: answer.statusText, fields: [...answer.headers], body: got.toString("base64") });
  }
  return seen;
}

const tours = [];
for (const one of JSON.parse(readFileSync(process.argv[2], "utf8"))) tours.push(await tour(one));
console.log(JSON.stringify(tours));
