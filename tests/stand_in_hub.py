"""A stand-in for the Hub, in memory: what `huggingface_hub` needs to create, upload, list and download.

Whoever writes needs the token `TOKEN`; whoever reads a private repository, too. A commit is a dictionary of files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_standInTokenOfTheTests"
USER = "me"
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
LARGE_FILES = (".safetensors", ".parquet", ".bin")
REPO = r"(?:(?P<kind>datasets|spaces)/)?(?P<name>[^/]+/[^/]+)"
RESOLVE = re.compile(rf"/{REPO}/resolve/(?P<revision>refs/[^/]+/[^/]+|[^/]+)/(?P<path>.+)")
API = re.compile(
    r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
    r"(?:/(?P<action>revision|tree|paths-info|preupload|commit|refs)(?:/(?P<revision>[^/]+)(?:/(?P<path>.*))?)?)?"
)
LARGE_BATCH = re.compile(rf"/{REPO}\.git/info/lfs/objects/batch")

Files = dict[str, bytes]


def blob_id(content: bytes) -> str:
    """Name a file as git does."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Repository:
    """The commits of one repository; `main` is its only branch."""

    def __init__(self, is_private: bool):
        self.is_private = is_private
        self.commits: dict[str, Files] = {}
        self.commit({})

    def commit(self, files: Files) -> str:
        """Add a commit and return its name."""
        names = json.dumps([len(self.commits), {path: blob_id(content) for path, content in sorted(files.items())}])
        self.main = hashlib.sha1(names.encode()).hexdigest()
        self.commits[self.main] = dict(files)
        return self.main

    def at(self, revision: str) -> tuple[str, Files] | None:
        """Return the name and the files of a commit or of `main`."""
        name = self.main if revision == "main" else revision
        return (name, self.commits[name]) if name in self.commits else None


class StandInHub:
    """What the server holds. `requests` has a line for each request, `unknown` those that were not understood."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large: Files = {}
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.url = ""

    def files(self, name: str, kind: str = "model") -> Files:
        """Return the files on the main branch of a repository."""
        repository = self.repositories[kind, name]
        return repository.commits[repository.main]

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """Return the variables of a process that takes this for the Hub; they must be set before it starts.

        Args:
            home: folder of its caches.
            token: with which it logs in; `None` = not at all.
        """
        env = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
        env |= {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0", "NO_PROXY": "127.0.0.1"}
        return env if token is None else env | {"HF_TOKEN": token}


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of `huggingface_hub`."""

    protocol_version = "HTTP/1.1"
    hub: StandInHub

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer any request; the others are alike."""
        self.body = self.read_body()
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.hub.requests.append(f"{self.command} {self.path}")
        self.route(unquote(url.path))

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 names of the base class

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().strip(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def send(self, code: int, body: Any = b"", **headers: Any) -> None:
        is_bytes = isinstance(body, bytes)
        content = body if is_bytes else json.dumps(body).encode()
        self.send_response(code)
        headers |= {"Content-Type": "application/octet-stream" if is_bytes else "application/json"}
        for name, value in (headers | {"Content-Length": len(content)}).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, code: int, kind: str, message: str, **headers: Any) -> None:
        self.send(code, {"error": message}, X_Error_Code=kind, X_Error_Message=message, **headers)

    @property
    def is_logged_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def route(self, path: str) -> None:
        if "Authorization" in self.headers and not self.is_logged_in:
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif path == "/api/whoami-v2":
            self.send(200, {"type": "user", "name": USER, "orgs": [], "auth": {"type": "access_token"}})
        elif path == "/api/validate-yaml":
            self.send(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self.create(json.loads(self.body))
        elif match := RESOLVE.fullmatch(path):
            self.with_files(match, self.resolve)
        elif match := API.fullmatch(path):
            self.with_files(match, self.answer)
        elif match := LARGE_BATCH.fullmatch(path):
            objects = json.loads(self.body)["objects"]
            actions = [{"upload": {"href": f"{self.hub.url}/large/{one['oid']}"}} for one in objects]
            answers = [{**one, "actions": action} for one, action in zip(objects, actions, strict=True)]
            self.send(200, {"transfer": "basic", "objects": answers})
        elif path.startswith("/large/") and self.command == "PUT":
            self.hub.large[path.rpartition("/")[2]] = self.body
            self.send(200, {})
        elif path == "/api/agent-harnesses":  # what tools a newer Hub knows of; nothing depends on it
            self.refuse(404, "", "not found")
        else:
            self.hub.unknown.append(f"{self.command} {path}")
            self.refuse(404, "", "not found")

    def create(self, wanted: Mapping[str, Any]) -> None:
        if not self.is_logged_in:
            self.refuse(401, "", "Invalid username or password.")
            return
        kind, name = wanted.get("type", "model"), f"{wanted.get('organization') or USER}/{wanted['name']}"
        is_there = (kind, name) in self.hub.repositories
        if not is_there:
            is_private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            self.hub.repositories[kind, name] = Repository(is_private)
        url = f"{self.hub.url}/{'' if kind == 'model' else kind + 's/'}{name}"
        answer = {"url": url, "name": name, "id": name}
        self.send(409, {"error": "You already created this repo", **answer}) if is_there else self.send(200, answer)

    def with_files(self, match: re.Match, answer: Any) -> None:
        """Answer for a commit that exists and may be read."""
        kind = KINDS[match["kind"] or "models"]
        repository = self.hub.repositories.get((kind, match["name"]))
        if repository is None or (repository.is_private and not self.is_logged_in):
            self.refuse(404 if self.is_logged_in else 401, "RepoNotFound", "Repository not found")
            return
        found = repository.at(match["revision"] or "main")
        if found is None:
            self.refuse(404, "RevisionNotFound", "Revision not found")
            return
        answer(repository, kind, match, *found)

    def resolve(self, repository: Repository, kind: str, match: re.Match, commit: str, files: Files) -> None:
        content = files.get(match["path"])
        if content is None:
            self.refuse(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
            return
        headers = {"ETag": f'"{blob_id(content)}"', "X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        if not (wanted := self.headers.get("Range")):
            self.send(200, content, **headers)
            return
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted).groups()
        start, end = int(first), min(int(last or len(content)), len(content) - 1)
        part = f"bytes {start}-{end}/{len(content)}"
        self.send(206, content[start : end + 1], Content_Range=part, **headers)

    def answer(self, repository: Repository, kind: str, match: re.Match, commit: str, files: Files) -> None:
        action = match["action"]
        if action in (None, "revision"):
            self.send(200, describe(match["name"], repository, commit, files))
        elif action == "tree":
            is_deep = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
            self.send(200, tree(files, (match["path"] or "").strip("/"), is_deep))
        elif action == "paths-info":
            self.send(200, [item for path in self.wanted_paths() for item in path_info(files, path.strip("/"))])
        elif action == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.main}
            self.send(200, {"branches": [main], "tags": [], "converts": []})
        elif not self.is_logged_in:
            self.refuse(401, "", "Invalid username or password.")
        elif action == "preupload":
            self.send(200, {"files": [upload_mode(one["path"]) for one in json.loads(self.body)["files"]]})
        else:
            name = repository.commit(self.changed(files))
            url = f"{self.hub.url}/{match['name']}/commit/{name}"
            self.send(200, {"success": True, "commitUrl": url, "commitOid": name, "pullRequestUrl": None})

    def wanted_paths(self) -> list[str]:
        if "json" in self.headers.get("Content-Type", ""):
            return json.loads(self.body)["paths"]
        return parse_qs(self.body.decode()).get("paths", [])

    def changed(self, files: Files) -> Files:
        """Return the files of a commit after the operations of a request (one JSON object a line)."""
        changed = dict(files)
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                changed[value["path"]] = self.hub.large[value["oid"]]
            elif operation["key"] == "deletedFile":
                changed.pop(value["path"], None)
        return changed


def describe(name: str, repository: Repository, commit: str, files: Files) -> dict[str, Any]:
    """Return what the Hub tells of a repository."""
    facts: dict[str, Any] = {"_id": "0", "id": name, "modelId": name, "sha": commit, "private": repository.is_private}
    facts |= {"disabled": False, "gated": False, "downloads": 0, "likes": 0, "tags": []}
    facts["siblings"] = [{"rfilename": path} for path in files]
    card = files.get("README.md", b"")
    if card.startswith(b"---"):
        facts["cardData"] = yaml.safe_load(card.split(b"---")[1])
        facts |= {key: facts["cardData"].get(key) for key in ("pipeline_tag", "library_name")}
    return facts


def file_info(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "oid": blob_id(content), "size": len(content), "path": path}


def folder_info(path: str) -> dict[str, Any]:
    return {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}


def path_info(files: Files, path: str) -> list[dict[str, Any]]:
    if path in files:
        return [file_info(path, files[path])]
    return [folder_info(path)] if any(name.startswith(f"{path}/") for name in files) else []


def tree(files: Files, folder: str, is_deep: bool) -> list[dict[str, Any]]:
    """List a folder, or all that is below it."""
    start = f"{folder}/" if folder else ""
    below = {path: content for path, content in files.items() if path.startswith(start)}
    parents = {str(parent) for path in below for parent in Path(path).parents} - {".", folder}
    entries = [folder_info(path) for path in sorted(parents)] + [file_info(*item) for item in sorted(below.items())]
    return [entry for entry in entries if is_deep or "/" not in entry["path"][len(start) :]]


def upload_mode(path: str) -> dict[str, Any]:
    mode = "lfs" if path.endswith(LARGE_FILES) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}


@contextmanager
def stand_in_hub() -> Iterator[StandInHub]:
    """Run a stand-in Hub on a free port."""
    hub = StandInHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
