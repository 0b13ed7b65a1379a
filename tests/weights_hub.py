"""The part of the Hugging Face hub that holds models, on this machine: what a repository has, and its files."""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from hub import LocalServer

SHA = "0123456789abcdef0123456789abcdef01234567"  # of the only commit


class WeightsHub(LocalServer):
    """add(repo, folder, more): the files of the folder, and others; sent: the names of those that were fetched."""

    def __init__(self):
        self.repos, self.sent = {}, []
        super().__init__(Handler)

    def add(self, repo, folder: Path | None, more=()):
        files = {path.name: path.read_bytes() for path in folder.iterdir()} if folder else {}
        self.repos[repo] = files | dict(more)


class Handler(BaseHTTPRequestHandler):
    """GET /api/models/REPO, /revision/NAME and /tree/NAME of it, and HEAD and GET of /REPO/resolve/REVISION/FILE."""

    protocol_version = "HTTP/1.1"
    hub: WeightsHub

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = self.path.partition("?")[0]
        about = re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/(?:revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not about and not file:  # the hub's library also asks what it may do
            return self.send(404, b"", {})
        repo, revision = (about or file)[1], (about or file)[2]
        if repo not in self.hub.repos:
            return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})
        if revision not in (None, "main", SHA):
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        files = self.hub.repos[repo]
        if about:
            names = [{"rfilename": name} for name in files]
            found = {"_id": "1", "id": repo, "sha": SHA, "siblings": names}
            if "/tree/" in path:
                found = [{"type": "file", "path": name, "size": len(files[name]), "oid": "0"} for name in files]
            body = json.dumps(found).encode()
            return self.send(200, body, {"Content-Type": "application/json"})
        if file[3] not in files:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        body = files[file[3]]
        if self.command == "GET":
            self.hub.sent.append(file[3])
        self.send(200, body, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": SHA})

    def send(self, status, body, headers):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
