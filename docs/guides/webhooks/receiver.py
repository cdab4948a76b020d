"""A small receiver of OpenCPM's webhooks: it checks the signature, drops duplicates and keeps the newest state of each
citizen in SQLite. Python 3.8 or newer, nothing to install.

    WEBHOOK_SECRETS=whsec_… PORT=9090 python3 receiver.py
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOLERANCE = 5 * 60  # how far the clocks may be apart, in seconds
MAX_MESSAGE = 1 << 20  # the longest body that is read, in bytes

# Two while a secret is rotated.
KEYS = [base64.b64decode(secret[len("whsec_"):]) for secret in os.environ["WEBHOOK_SECRETS"].split()]
if any(len(key) < 24 for key in KEYS):
    raise SystemExit("WEBHOOK_SECRETS: not whsec_ and the base64 of a key")

SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (webhook_id TEXT PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS citizen (
    citizen_id   TEXT PRIMARY KEY,
    external_ref TEXT,
    sent_at      TEXT NOT NULL,
    message      TEXT
);
CREATE INDEX IF NOT EXISTS citizen_ref ON citizen (external_ref);
"""


def verify(headers, body):
    """Say whether one of the signatures was made with one of the keys, lately, over this very body, as bytes."""
    webhook_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not webhook_id or not at.isdecimal() or abs(time.time() - int(at)) > TOLERANCE:
        return False
    signed = f"{webhook_id}.{at}.".encode() + body
    wanted = [b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in KEYS]
    signatures = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(signature, want) for signature in signatures for want in wanted)


def parse(content_type, body):
    """Read a body, in its CloudEvents envelope or without one."""
    message = json.loads(body)
    if content_type.startswith("application/cloudevents+json"):
        message = message["data"]
    message["citizenId"], message["sentAt"], message["eventType"]  # always there
    return message


def apply(db, webhook_id, message):
    """Store what a message says, unless it was stored before or is older than what is there."""
    event = message["eventType"]
    if event == "test":
        return
    with db:  # one transaction: the id is never kept without the state, nor the state without the id
        new = db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (webhook_id, time.time()))
        if new.rowcount == 0:
            return
        # Of an erased citizen nothing is kept but that there is nothing to be told any more.
        erased = event == "citizen.deleted"
        db.execute(
            """
            INSERT INTO citizen (citizen_id, external_ref, sent_at, message) VALUES (?, ?, ?, ?)
            ON CONFLICT (citizen_id) DO UPDATE SET
                external_ref = excluded.external_ref, sent_at = excluded.sent_at, message = excluded.message
            WHERE excluded.sent_at > citizen.sent_at
            """,
            (
                message["citizenId"],
                None if erased else message.get("externalRef"),
                message["sentAt"],
                None if erased else json.dumps(message),
            ),
        )


def connect():
    return sqlite3.connect(os.environ.get("DATABASE", "receiver.db"), timeout=10)


class Receiver(BaseHTTPRequestHandler):
    timeout = 10

    def do_POST(self):
        """Answer 204 once the message is safe, and only then."""
        length = int(self.headers.get("Content-Length", 0))
        if not 0 <= length <= MAX_MESSAGE:
            return self.answer(413)
        body = self.rfile.read(length)
        if not verify(self.headers, body):
            return self.answer(401)
        try:
            message = parse(self.headers.get("Content-Type", ""), body)
        except (ValueError, KeyError, TypeError):
            return self.answer(400)
        with closing(connect()) as db:
            apply(db, self.headers["webhook-id"], message)
        self.answer(204)

    def do_GET(self):
        ref = unquote(self.path[len("/citizens/"):])
        with closing(connect()) as db:
            found = db.execute("SELECT message FROM citizen WHERE external_ref = ?", (ref,)).fetchone()
        if found is None:
            return self.answer(404)
        self.answer(200, found[0].encode())

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass  # the query of a request may hold a token


if __name__ == "__main__":
    with closing(connect()) as db:
        db.executescript(SCHEMA)
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Receiver).serve_forever()
