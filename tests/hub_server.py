"""A stand-in for the Hugging Face Hub on the loopback interface: datasets to read, and models to upload.

Large files go through Git LFS, as the Hub has them from clients without Xet.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_stand_in"
"""The token of a user who has accepted the terms of the gated datasets."""


class HubServer:
    """Serves datasets as the Hub does: their metadata, file lists and files.

    Args:
        datasets: by name, by branch, by path, the contents of the files.
        gated: names of those whose files only TOKEN opens.
    """

    def __init__(
        self, datasets: Mapping[str, Mapping[str, Mapping[str, bytes]]], gated: tuple[str, ...] = ()
    ) -> None:
        self.datasets, self.gated = datasets, gated
        self.asked: list[str] = []
        self.models: dict[str, dict[str, bytes]] = {}  # what was uploaded, by repository and path
        self.public: set[str] = set()
        self.commits: list[list[str]] = []
        self.breaks_at = ""  # the connection breaks when a commit has this file
        self._objects: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # a body waits 40 ms for its headers' acknowledgement otherwise

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                hub.answer(self, b"")

            do_HEAD = do_GET

            def do_POST(self) -> None:
                hub.answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            do_PUT = do_POST

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()

    def environment(self, cache: object, token: str = "") -> dict[str, str]:
        """What a process must have in its environment to take this for the Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **({"HF_TOKEN": token} if token else {}),
        }

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answers one request."""
        parts = urlsplit(request.path)
        self.asked.append(f"{request.command} {unquote(parts.path)}")
        if parts.path.startswith("/api/datasets/"):
            self._describe(request, parts.path.removeprefix("/api/datasets/").split("/"), parts.query, body)
        elif parts.path == "/api/validate-yaml":
            _send(request, 200, {"errors": [], "warnings": []})
        elif parts.path.startswith(("/api/repos/create", "/api/models/", "/lfs/")) or "/info/lfs/" in parts.path:
            self._upload(request, parts.path.strip("/").split("/"), body)
        elif parts.path.startswith("/datasets/"):
            self._send_file(request, parts.path.removeprefix("/datasets/").split("/"))
        else:
            _send(request, 404, {"error": "Not Found"}, {"X-Error-Code": "EntryNotFound"})

    def _upload(self, request: BaseHTTPRequestHandler, path: list[str], body: bytes) -> None:
        """Answers what makes and fills a repository of a model."""
        signed = path[0] == "lfs"  # the address of an upload is secret, and all that it takes
        if not signed and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            _send(request, 401, {"error": "Invalid username or password."})
            return
        name = "/".join(path[2:4]) if path[0] == "api" else "/".join(path[:2]).removesuffix(".git")
        about = json.loads(body) if body[:1] == b"{" and path[-1] != "main" else {}
        if path[1] == "repos":
            name = f"{about['organization']}/{about['name']}"
            exists = name in self.models
            if not exists and about.get("visibility", "public") == "public":
                self.public.add(name)
            self.models.setdefault(name, {})
            _send(request, 409 if exists else 200, {"url": f"{self.url}/{name}", "error": "exists"})
        elif path[0] == "lfs":
            self._objects[path[1]] = body
            _send(request, 200, {})
        elif "batch" in path:
            objects = []
            for each in about["objects"]:
                href = f"{self.url}/lfs/{each['oid']}"
                action = {} if each["oid"] in self._objects else {"actions": {"upload": {"href": href}}}
                objects.append({**each, **action})
            _send(request, 200, {"transfer": "basic", "objects": objects})
        elif name not in self.models:
            _send(request, 404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})
        elif "preupload" in path:
            files = json.loads(body)["files"]
            modes = ["lfs" if each["path"].endswith(".safetensors") else "regular" for each in files]
            answer = [
                {"path": each["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}
                for each, mode in zip(files, modes, strict=True)
            ]
            _send(request, 200, {"files": answer})
        elif "commit" in path:
            lines = [json.loads(line) for line in body.splitlines()]
            added = {line["value"]["path"]: line for line in lines if line["key"] in ("file", "lfsFile")}
            if self.breaks_at in added:
                request.close_connection = True
                request.connection.close()
                return
            for file, line in added.items():
                value = line["value"]
                is_large = line["key"] == "lfsFile"
                content = self._objects[value["oid"]] if is_large else base64.b64decode(value["content"])
                self.models[name][file] = content
            self.commits.append(sorted(added))
            answer = {
                "commitUrl": f"{self.url}/{name}/commit/1",
                "commitOid": _commit(name, str(len(self.commits))),
            }
            _send(request, 200, answer)
        elif "tree" in path:
            _send(request, 200, _uploaded_entries(self.models[name]))
        else:
            _send(request, 200, {"id": name, "sha": _commit(name, "main"), "private": name not in self.public})

    def _find(self, request: BaseHTTPRequestHandler, name: str, revision: str) -> Mapping[str, bytes] | None:
        branches = self.datasets.get(name, {})
        by_commit = {_commit(name, branch): files for branch, files in branches.items()}
        files = branches.get(revision) or by_commit.get(revision)
        if files is None:
            code = "RevisionNotFound" if branches else "RepoNotFound"
            _send(request, 404, {"error": code}, {"X-Error-Code": code})
        return files

    def _describe(self, request: BaseHTTPRequestHandler, path: list[str], query: str, body: bytes) -> None:
        name, rest = "/".join(path[:2]), path[2:]
        verb = rest[0] if rest else "revision"
        revision = unquote(rest[1]) if len(rest) > 1 else "main"
        files = self._find(request, name, revision)
        if files is None:
            return
        commit = revision if len(revision) == 40 else _commit(name, revision)
        if verb == "revision":
            card = files.get("README.md", b"").decode().split("---\n")
            about = {
                "id": name,
                "sha": commit,
                "private": False,
                "gated": "auto" if name in self.gated else False,
                "siblings": [{"rfilename": file} for file in sorted(files)],
                "cardData": yaml.safe_load(card[1]) if len(card) > 2 else {},
            }
            _send(request, 200, about)
        elif verb == "tree":
            folder = "".join(f"{unquote(part)}/" for part in rest[2:])
            recursive = parse_qs(query).get("recursive", ["false"])[0].lower() in ("true", "1")
            entries = _entries(files, folder, recursive)
            if entries:
                _send(request, 200, entries)
            else:
                _send(request, 404, {"error": "no such entry"}, {"X-Error-Code": "EntryNotFound"})
        elif verb == "paths-info":
            wanted = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode()).get("paths", [])
            entries = [each for path in wanted for each in _entries(files, "", True) if each["path"] == path]
            folders = {f"{part}" for file in files for part in _folders(file)}
            entries += [_folder(path) for path in wanted if path in folders]
            _send(request, 200, entries)
        else:
            _send(request, 404, {"error": "Not Found"})

    def _send_file(self, request: BaseHTTPRequestHandler, path: list[str]) -> None:
        name, revision, file = "/".join(path[:2]), unquote(path[3]), unquote("/".join(path[4:]))
        files = self._find(request, name, revision)
        if files is None:
            return
        if name in self.gated and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            said = f"Access to dataset {name} is restricted. You must have access to it and be authenticated."
            code = 403 if request.headers.get("Authorization") else 401
            _send(request, code, {"error": said}, {"X-Error-Code": "GatedRepo", "X-Error-Message": said})
            return
        if file not in files:
            _send(request, 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        content = files[file]
        commit = revision if len(revision) == 40 else _commit(name, revision)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_digest(content)}"', "Accept-Ranges": "bytes"}
        status, range_asked = 200, request.headers.get("Range", "")
        if range_asked.startswith("bytes="):
            first, last = range_asked.removeprefix("bytes=").split("-")
            begin, end = int(first or 0), min(int(last or len(content) - 1), len(content) - 1)
            status, headers["Content-Range"] = 206, f"bytes {begin}-{end}/{len(content)}"
            content = content[begin : end + 1]
        _send_bytes(request, status, content, headers | {"Content-Type": "application/octet-stream"})


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _commit(name: str, branch: str) -> str:
    return _digest(f"{name}@{branch}".encode())


def _folders(file: str) -> list[str]:
    parts = file.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "oid": _digest(path.encode()), "size": 0}


def _entries(files: Mapping[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
    """What lies in a folder, as the Hub's API lists it."""
    inside = {file: content for file, content in files.items() if file.startswith(folder)}
    folders = sorted({each for file in inside for each in _folders(file) if each.startswith(folder)})
    entries = [_folder(each) for each in folders] + [
        {"type": "file", "path": file, "oid": _digest(content), "size": len(content)}
        for file, content in sorted(inside.items())
    ]
    return [each for each in entries if recursive or "/" not in each["path"].removeprefix(folder)]


def _uploaded_entries(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """A repository's files with Git's hashes, and those of Git LFS for large ones."""
    entries: list[dict[str, Any]] = []
    for path, content in sorted(files.items()):
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        entry = {"type": "file", "path": path, "size": len(content), "oid": blob}
        entries.append({**entry, "lfs": large} if path.endswith(".safetensors") else entry)
    return entries


def _send(
    request: BaseHTTPRequestHandler, status: int, value: Any, headers: Mapping[str, str] | None = None
) -> None:
    _send_bytes(
        request, status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
    )


def _send_bytes(request: BaseHTTPRequestHandler, status: int, content: bytes, headers: Mapping[str, str]) -> None:
    request.send_response(status)
    for key, value in headers.items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)
