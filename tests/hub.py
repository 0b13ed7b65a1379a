"""A Hugging Face hub on this machine, for the tests: its redirects and headers, and the ways it can fail."""

import hashlib
import re
import socket
import struct
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalServer:
    """A server on this machine for a `with` block, at `url`; its handler finds this object as `hub`."""

    def __init__(self, handler):
        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass  # a client that went away

        self.server = Server(("127.0.0.1", 0), type("BoundHandler", (handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


class Hub(LocalServer):
    """files: name -> bytes. faults: name -> what happens to the next downloads of it, in order; see `Handler`."""

    def __init__(self, files, sha256=True, seconds_per_megabyte=0.0, bytes_a_second=None):
        self.files, self.sha256, self.seconds_per_megabyte = dict(files), sha256, seconds_per_megabyte
        self.bytes_a_second = bytes_a_second  # None: by seconds_per_megabyte; 0: silence
        self.faults = defaultdict(list)
        self.asked = []  # (name, first byte) of each download
        self.sent = 0
        super().__init__(Handler)

    def etag(self, name):
        digest = hashlib.sha256(self.files[name]).hexdigest()
        return digest if self.sha256 else digest[:40]


class Handler(BaseHTTPRequestHandler):
    """HEAD and GET of /datasets/OWNER/NAME/resolve/main/FILE lead to /cdn/FILE, as on the real hub.

    A fault is a status (503), ("drop", n): reset after n bytes, ("short", n): claim that n bytes are all,
    "no ranges": send it from the start, "endless": say no length and send it twenty times, or "corrupt": flip bits in
    the last byte.
    """

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.resolve()

    def do_GET(self):
        if self.path.startswith("/cdn/"):
            self.download(self.path.removeprefix("/cdn/"))
        else:
            self.resolve()

    def resolve(self):
        found = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/main/(.+)", self.path)
        name = found and found[2]
        fault = self.hub.faults[f"HEAD {name}"][:1]
        if self.command == "HEAD" and fault:
            self.hub.faults[f"HEAD {name}"].pop(0)
            return self.empty(fault[0])
        if name not in self.hub.files:
            return self.empty(404, {"X-Error-Code": "EntryNotFound"})
        linked = {"X-Linked-Size": str(len(self.hub.files[name])), "X-Linked-ETag": f'"{self.hub.etag(name)}"'}
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")  # the real one sends to another host, too
        self.empty(302, {"Location": f"{elsewhere}/cdn/{name}", "X-Repo-Commit": "0" * 40, **linked})

    def empty(self, status, headers=None):
        self.send_response(status)
        for key, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()

    def download(self, name):
        body, faults = self.hub.files[name], self.hub.faults[name]
        fault = faults.pop(0) if faults else None
        if isinstance(fault, int):
            return self.empty(fault)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and fault != "no ranges" else 0
        self.hub.asked.append((name, start))
        part = body[start:]
        if fault == "corrupt":
            part = part[:-1] + bytes([part[-1] ^ 255])
        kind, limit = fault if isinstance(fault, tuple) else (None, len(part))
        claimed = min(limit, len(part)) if kind == "short" else len(part)
        self.send_response(206 if start else 200)
        if fault == "endless":
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(claimed))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        for _ in range(20 * (fault == "endless")):  # or a downloader without a bound would fill the disk
            self.wfile.write(body)
            self.hub.sent += len(body)
        place = 0
        while place < min(limit, len(part)):
            rate = self.hub.bytes_a_second
            size = 1 << 16 if rate is None else max(rate // 50, 1)
            piece = part[place : min(place + size, limit)]
            place += len(piece)
            while self.hub.bytes_a_second == 0:
                time.sleep(0.1)
            time.sleep(self.hub.seconds_per_megabyte / 16 if rate is None else len(piece) / rate)
            self.wfile.write(piece)
            self.hub.sent += len(piece)
        if kind == "drop":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()  # it holds the socket open as well
            self.connection.close()
            self.close_connection = True
