#!/usr/bin/env python3
"""Between the public conformance client and `serve`.

The client (functions-framework-conformance/client) posts to localhost:8080 and
then compares function_output.json, which the function is to write. Functions
here have no files: this passes each request on and writes the answer there.

    client -cmd "python3 adapter.py lwc-orchestrator serve chain.toml" ...

Target and signature come from the environment, as the contract has it.
"""

import http.client
import http.server
import os
import re
import signal
import subprocess
import sys

if len(sys.argv) < 3:
    sys.exit(__doc__)
served = subprocess.Popen(
    sys.argv[1:], env={**os.environ, "PORT": "0"}, stdout=subprocess.PIPE, text=True
)
port = int(re.search(r":(\d+)$", served.stdout.readline().strip()).group(1))


class Adapter(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        onward = http.client.HTTPConnection("127.0.0.1", port)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        onward.request("POST", self.path, body, headers)
        answer = onward.getresponse()
        body = answer.read()
        with open("function_output.json", "wb") as f:
            f.write(body)
        self.send_response(answer.status)
        for k, v in answer.getheaders():
            if k.lower() not in ("content-length", "connection", "date", "transfer-encoding"):
                self.send_header(k, v)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def end(*_):
    served.terminate()
    served.wait(20)
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Adapter).serve_forever()
