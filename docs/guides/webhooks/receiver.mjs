// A small receiver of OpenCPM's webhooks: it checks the signature, drops duplicates and keeps the newest state of each
// citizen. It keeps them in memory; a real one keeps them in its database. Node 18 or newer, nothing to install.
//
//   WEBHOOK_SECRETS=whsec_… PORT=9090 node receiver.mjs

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const tolerance = 5 * 60; // how far the clocks may be apart, in seconds
const maxMessage = 1 << 20; // the longest body that is read, in bytes

// Two while a secret is rotated.
const keys = (process.env.WEBHOOK_SECRETS ?? "")
  .split(" ")
  .filter(Boolean)
  .map((secret) => Buffer.from(secret.replace(/^whsec_/, ""), "base64"));
if (keys.some((key) => key.length < 24)) throw new Error("WEBHOOK_SECRETS: not whsec_ and the base64 of a key");

const equal = (a, b) => a.length === b.length && timingSafeEqual(a, b);

// Says whether one of the signatures was made with one of the keys, lately, over this very body, a Buffer.
function verify(headers, body) {
  const id = headers["webhook-id"];
  const at = headers["webhook-timestamp"];
  const signatures = (headers["webhook-signature"] ?? "").split(" ").map((s) => Buffer.from(s));
  if (!id || !/^\d+$/.test(at ?? "") || Math.abs(Date.now() / 1000 - at) > tolerance) return false;
  return keys.some((key) => {
    const mac = createHmac("sha256", key).update(`${id}.${at}.`).update(body);
    const want = Buffer.from("v1," + mac.digest("base64"));
    return signatures.some((signature) => equal(signature, want));
  });
}

// Reads a body, in its CloudEvents envelope or without one.
function parse(contentType, body) {
  let message = JSON.parse(body.toString("utf8"));
  if (contentType?.startsWith("application/cloudevents+json")) message = message.data;
  if (!message?.citizenId || !message.sentAt) throw new SyntaxError("not about a citizen");
  return message;
}

const seen = new Set(); // the webhook-id of every message applied
const citizens = new Map(); // the newest message about each citizen, by citizenId

// Stores what a message says, unless it was stored before or is older than what is there. In a database this is one transaction.
function apply(id, message) {
  const { citizenId, sentAt, eventType } = message;
  if (eventType === "test" || seen.has(id)) return;
  seen.add(id);
  const last = citizens.get(citizenId);
  if (last && sentAt <= last.sentAt) return; // in UTC with milliseconds, always: texts compare as times do
  // Of an erased citizen nothing is kept but that there is nothing to be told any more.
  citizens.set(citizenId, eventType === "citizen.deleted" ? { sentAt } : message);
}

async function read(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    if ((size += chunk.length) <= maxMessage) chunks.push(chunk);
  }
  return size <= maxMessage ? Buffer.concat(chunks) : null;
}

// Answers 204 once the message is safe, and only then.
async function receive(request, response) {
  const body = await read(request);
  if (body === null) return response.writeHead(413, { Connection: "close" }).end();
  if (!verify(request.headers, body)) return response.writeHead(401).end();
  let message;
  try {
    message = parse(request.headers["content-type"], body);
  } catch {
    return response.writeHead(400).end();
  }
  apply(request.headers["webhook-id"], message);
  response.writeHead(204).end();
}

function show(request, response) {
  const ref = decodeURIComponent(request.url.replace(/^\/citizens\//, ""));
  const found = [...citizens.values()].find((message) => message.externalRef === ref);
  if (!found) return response.writeHead(404).end();
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(found));
}

createServer((request, response) => {
  const answer = request.method === "POST" ? receive : show;
  Promise.resolve(answer(request, response)).catch(() => response.destroy());
}).listen(Number(process.env.PORT), "127.0.0.1");
