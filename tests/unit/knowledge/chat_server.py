"""A chat endpoint on this machine that does what a script says: for tests and for `benchmarks/llm_endpoint.py`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RATIONALE = "Named entities: 1. Zaphod (person) 2. Quuxville (location/city) Reasoning: Zaphod lives in Quuxville."
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


@dataclass
class Reply:
    """What the server sends: a status, a body (an object becomes JSON), headers, after a delay in seconds."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass
class Request:
    """What the server got; names of headers in lower case."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def content(self) -> Any:
        """The content of the last message."""
        return self.body["messages"][-1]["content"]


Script = Callable[[Request], Reply]


def answer(text: str | None = RATIONALE, finish_reason: str = "stop", usage: Any = USAGE, **reply: Any) -> Reply:
    """Return a completion, of `USAGE` tokens if nothing else is said."""
    message = {"role": "assistant", "content": text}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "test",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
    }
    return Reply(body if usage is None else {**body, "usage": usage}, **reply)


def failure(status: int, text: str = "it failed", code: str | None = None, **headers: str) -> Reply:
    """Return an error as OpenAI words it; header names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply({"error": {"message": text, "type": "test", "param": None, "code": code}}, status, named)


def in_turn(replies: Iterable[Reply], then: Script | None = None) -> Script:
    """Return a script that sends the replies one after the other, then what `then` says, or an answer."""
    left, lock = list(replies), threading.Lock()

    def script(request: Request) -> Reply:
        with lock:
            if left:
                return left.pop(0)
        return then(request) if then else answer()

    return script


class ChatServer:
    """Serves `POST /v1/chat/completions` on a free port of 127.0.0.1 while the `with` block runs.

    Attributes:
        script: asked for each reply; may be replaced at any time.
        requests: what was asked, in order of arrival.
        most_at_once: the greatest number of requests under way at the same time.
    """

    def __init__(self, script: Script | None = None):
        self.script = script or in_turn([])
        self.requests: list[Request] = []
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def reply(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path != "/v1/chat/completions":
            return failure(404, f"there is no {path}")
        request = Request(path, headers, json.loads(body))
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = self.script(request)
            self._stopping.wait(reply.delay_s)
        finally:
            with self._lock:
                self._at_once -= 1
        return reply

    def _make_handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else headers and body wait 40 ms for each other
            timeout = 10  # seconds that an idle connection stays open

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = server.reply(self.path, headers, body)
                content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except (BrokenPipeError, ConnectionResetError):  # a client that did not wait
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler
