"""A server with the few answers of the Hugging Face Hub that an upload and a download need."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0" * 40


class _Hub(BaseHTTPRequestHandler):
    """Keeps the files of all repositories in the server's `files`: {"user/name": {path: bytes}}."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append((self.path, self.headers.get("Authorization")))
        if self.headers.get("Authorization") != "Bearer hf_test":
            return self.answer({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            made = json.loads(body)
            name = f"{made.get('organization', 'user')}/{made['name']}"
            self.server.files.setdefault(name, {})
            return self.answer({"url": f"{self.server.address}/{name}"})
        if "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        if "/commit/" in self.path:
            name = "/".join(self.path.split("/")[3:5])
            for entry in map(json.loads, body.splitlines()):
                if entry["key"] == "file":
                    self.server.files[name][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return self.answer({"commitUrl": f"{self.server.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT})
        return self.answer({"valid": True})  # /api/validate-yaml, of the card

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        _, user, name, kind, *rest = [*self.path.split("/"), "", "", ""]
        files = self.server.files.get(f"{user}/{name}")
        content = (files or {}).get("/".join(filter(None, rest[1:])))
        if kind != "resolve" or content is None:
            code = "RepoNotFound" if files is None else "EntryNotFound"
            return self.answer({"error": code}, 404, {"X-Error-Code": code})
        etag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self.answer(content, 200, etag)

    def answer(self, content, status=200, headers=()):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {**dict(headers), "Content-Length": len(body), "Content-Type": "application/json"}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def start_hub():
    """A running server, with `address`, `files` and `calls`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.address, server.files, server.calls = f"http://127.0.0.1:{server.server_port}", {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
