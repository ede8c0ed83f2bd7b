"""A model server on loopback that plays a script, for real agent CLIs without an account.

It speaks Anthropic's Messages API and OpenAI's Responses and Chat Completions APIs:

    with scripted_models([Shell("git commit ..."), Say("Done.")]) as models:
        ...  # a client with the base URL models.url

Each request that offers tools takes the next turn; the last one is repeated. Requests without
tools are chores of the client (a title, a summary) and get a word. It is also an HTTP proxy that
connects nothing and remembers who asked: see `ModelServer.outside`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.model_apis import Api, Call, Chat, Messages, Refusal, Responses, shell_call, write_call

_APIS: Mapping[str, Api] = {
    "/messages": Messages(),
    "/responses": Responses(),
    "/chat/completions": Chat(),
}
_SECRETS = frozenset({"authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"})
_CHORE = "A scripted run"


@dataclass(frozen=True, slots=True)
class Say:
    """The model says something and ends its turn."""

    text: str


@dataclass(frozen=True, slots=True)
class Decline:
    """The model refuses to go on, for reasons of safety."""

    text: str


@dataclass(frozen=True, slots=True)
class Shell:
    """The model runs a command by the client's shell tool."""

    command: str


@dataclass(frozen=True, slots=True)
class Write:
    """The model writes a file by the client's tool for that."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class UsageLimit:
    """429: the account's plan is used up until a time that is told (unix seconds)."""

    resets_at: int


@dataclass(frozen=True, slots=True)
class RateLimit:
    """429: too many requests for this key; `Retry-After` says for how long."""

    retry_after_seconds: int = 1


@dataclass(frozen=True, slots=True)
class Overloaded:
    """The service has no room: 529 of Anthropic's, 503 of OpenAI's."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The connection breaks in the middle of the answer."""


@dataclass(frozen=True, slots=True)
class Nonsense:
    """200, and neither JSON nor events."""


Turn = Say | Decline | Shell | Write | UsageLimit | RateLimit | Overloaded | Dropped | Nonsense


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it came; `headers` are lower-case and hold no key."""

    path: str
    model: str
    tools: tuple[str, ...]
    headers: Mapping[str, str]
    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Refused:
    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class ModelServer:
    """What was asked so far, and where to ask: `url` has no path, clients may add `/v1`."""

    def __init__(self, scripts: Mapping[str, Sequence[Turn]]) -> None:
        self.asked: list[Asked] = []
        self.strangers: list[str] = []
        """Requests that no model API has: `GET /v1/models` and the like."""
        self.outside: list[str] = []
        """Hosts that somebody asked this server, as their proxy, to connect to."""
        self.url = ""
        self._scripts = {mark: list(script) for mark, script in scripts.items()}
        self._lock = threading.Lock()

    def turns_left(self, mark: str = "") -> int:
        """How many turns of a script nobody has taken yet; the last one stays."""
        return len(self._scripts[mark]) - 1

    def next_turn(self, asked: Asked) -> Turn:
        """Take the next turn of the script whose mark is in the request."""
        text = json.dumps(asked.body)
        with self._lock:
            self.asked.append(asked)
            if not asked.tools:
                return Say(_CHORE)
            script = next(script for mark, script in self._scripts.items() if mark in text)
            return script.pop(0) if len(script) > 1 else script[0]


@contextmanager
def scripted_models(
    script: Sequence[Turn] | Mapping[str, Sequence[Turn]],
) -> Iterator[ModelServer]:
    """Serve one script, or several: that of the first mark (a text) that is in the request."""
    scripts = script if isinstance(script, Mapping) else {"": script}
    models = ModelServer(scripts)

    class Handler(_Handler):
        server_models = models

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # closing waits for them: each serves one request
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        models.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield models
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_models: ModelServer
    protocol_version = "HTTP/1.1"
    timeout = 20.0  # of a client that connects and says nothing

    def do_POST(self) -> None:
        body = self._body()
        path = urlsplit(self.path).path
        if path.endswith("/messages/count_tokens"):
            return self._send(200, {"input_tokens": len(json.dumps(body)) // 4})
        api = next((api for end, api in _APIS.items() if path.endswith(end)), None)
        if api is None:
            return self._unknown()
        asked = Asked(
            path=path,
            model=str(body.get("model")),
            tools=tuple(tool.name for tool in api.tools(body)),
            headers={k.lower(): v for k, v in self.headers.items() if k.lower() not in _SECRETS},
            body=body,
        )
        return self._answer(api, asked, self.server_models.next_turn(asked))

    def do_GET(self) -> None:
        self._unknown()

    def do_HEAD(self) -> None:
        self._unknown()

    def do_CONNECT(self) -> None:
        self.server_models.outside.append(self.path)
        self._send(403, {"error": "this proxy connects nothing"})

    def _unknown(self) -> None:
        address = urlsplit(self.path)
        if address.netloc and self.server_models.url != f"http://{address.netloc}":
            self.server_models.outside.append(address.netloc)
        else:
            self.server_models.strangers.append(f"{self.command} {address.path}")
        self._send(404, {"error": {"type": "not_found_error", "message": "not here"}})

    def _answer(self, api: Api, asked: Asked, turn: Turn) -> None:
        tools = api.tools(asked.body)
        match turn:
            case Say(text):
                self._say(api, asked, text)
            case Decline(text):
                self._say(api, asked, Refusal(text))
            case Shell(command):
                self._say(api, asked, shell_call(tools, command))
            case Write(path, text):
                self._say(api, asked, write_call(tools, path, text))
            case UsageLimit() | RateLimit() | Overloaded():
                refused = _refused(api, turn)
                self._send(refused.status, refused.body, refused.headers)
            case Dropped():
                self._say(api, asked, "Half of this", is_dropped=True)
            case Nonsense():
                self._send(200, "<html>{}[,")

    def _say(self, api: Api, asked: Asked, said: str | Call, *, is_dropped: bool = False) -> None:
        if not asked.body.get("stream"):
            body = json.dumps(api.whole(asked.model, said)).encode()
            self._begin(200, {"Content-Type": "application/json", "Content-Length": len(body)})
            self.wfile.write(body[: len(body) // 2] if is_dropped else body)
            return
        self._begin(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        events = list(api.events(asked.model, said))
        for name, data in events[: len(events) // 2] if is_dropped else events:
            text = data if isinstance(data, str) else json.dumps(data)
            self._chunk((f"event: {name}\n" if name else "") + f"data: {text}\n\n")
        if not is_dropped:
            self._chunk("")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _send(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        sized = {"Content-Type": "application/json", "Content-Length": len(data)}
        self._begin(status, {**sized, **(headers or {})})
        self.wfile.write(data if self.command != "HEAD" else b"")

    def _begin(self, status: int, headers: Mapping[str, object]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def _body(self) -> dict[str, Any]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b"".join(iter(self._read_chunk, b""))
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(data or b"{}")
        return body if isinstance(body, dict) else {}

    def _read_chunk(self) -> bytes:
        data = self.rfile.read(int(self.rfile.readline().split(b";")[0], 16))
        self.rfile.readline()
        return data

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base's name
        """Say nothing: what was asked is recorded."""


def _refused(api: Api, turn: UsageLimit | RateLimit | Overloaded) -> _Refused:
    is_anthropic = isinstance(api, Messages)
    match turn:
        case Overloaded() if is_anthropic:
            return _Refused(529, api.refusal("overloaded_error", "Overloaded"))
        case Overloaded():
            message = "The server is currently overloaded. Please try again later."
            return _Refused(503, api.refusal("server_is_overloaded", message))
        case RateLimit(seconds):
            reset = datetime.fromtimestamp(int(time.time()) + seconds, UTC)
            kind = "rate_limit_error" if is_anthropic else "rate_limit_exceeded"
            headers = {
                "retry-after": str(seconds),
                "anthropic-ratelimit-requests-reset": reset.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "x-ratelimit-reset-requests": f"{seconds}s",
            }
            return _Refused(429, api.refusal(kind, "Too many requests a minute."), headers)
        case UsageLimit(resets_at):
            return _usage_limit(api, resets_at)


def _usage_limit(api: Api, resets_at: int) -> _Refused:
    """Say it as the services do to a plan: unified headers, `usage_limit_reached`."""
    left = max(0, resets_at - int(time.time()))
    if isinstance(api, Messages):
        unified = "anthropic-ratelimit-unified"
        headers = {
            "retry-after": str(left),
            f"{unified}-status": "rejected",
            f"{unified}-reset": str(resets_at),
            f"{unified}-representative-claim": "five_hour",
            f"{unified}-5h-status": "rejected",
            f"{unified}-5h-reset": str(resets_at),
            f"{unified}-5h-utilization": "1.0",
            f"{unified}-overage-status": "rejected",
        }
        message = "This request would exceed your account's rate limit. Please try again later."
        return _Refused(429, api.refusal("rate_limit_error", message), headers)
    headers = {
        "retry-after": str(left),
        "x-codex-primary-used-percent": "100.0",
        "x-codex-primary-window-minutes": "300",
        "x-codex-primary-reset-at": str(resets_at),
    }
    more = {"plan_type": "plus", "resets_at": resets_at, "resets_in_seconds": left}
    body = api.refusal("usage_limit_reached", "The usage limit has been reached", **more)
    return _Refused(429, body, headers)
