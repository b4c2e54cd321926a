#!/usr/bin/env python3
"""A webhook receiver in one file, without dependencies: checks both signatures of every
request and prints the event.

    python3 docs/examples/receiver.py [PORT]        (5000)

WEBHOOK_SECRET is the route's secret (whsec_…), SERVICE_SECRET the setting serviceSecret.
Without them it prints the events and says that it checked nothing.
"""
import base64
import hashlib
import hmac
import http.server
import json
import os
import sys
import time


def standard(headers, body, secret):
    """The Standard Webhooks signature: id, timestamp and body; any of several signatures may fit."""
    stamp = headers.get("webhook-timestamp", "")
    if not stamp.isdigit() or abs(time.time() - int(stamp)) > 300:
        return False  # too old: somebody may be sending a recorded request again
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join([headers.get("webhook-id", "").encode(), stamp.encode(), body])
    want = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(want, got) for got in headers.get("webhook-signature", "").split(" "))


def emailengine(headers, body, secret):
    """The signature over the body alone, base64url without padding."""
    want = base64.urlsafe_b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).rstrip(b"=").decode()
    return hmac.compare_digest(want, headers.get("X-EE-Wh-Signature", ""))


CHECKS = [
    (name, check, os.environ[name])
    for name, check in (("WEBHOOK_SECRET", standard), ("SERVICE_SECRET", emailengine))
    if os.environ.get(name)
]
seen = set()  # of delivery ids: an attempt whose answer was lost comes again


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        bad = [name for name, check, secret in CHECKS if not check(self.headers, body, secret)]
        self.send_response(401 if bad else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()
        delivery = self.headers.get("webhook-id")
        if bad or delivery in seen:
            print("refused: signature does not fit" if bad else "again:", bad or delivery, flush=True)
            return
        seen.add(delivery)
        event = json.loads(body)
        signed = "signature ok" if CHECKS else "signature not checked"
        subject = event["data"].get("subject") or ""
        print(f"#{event['seq']} {event['event']} {event['account']} {event.get('path', '')} {subject} ({signed})", flush=True)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    print(f"listening on http://127.0.0.1:{port}/", flush=True)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
