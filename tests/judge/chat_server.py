"""A chat server on this machine that does what a test tells it to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Act = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Notes each request, then does the next thing that the test has planned."""

    protocol_version = "HTTP/1.1"
    server: ChatServer

    def do_POST(self) -> None:
        self.asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.requests.append(self.asked)
            self.server.headers.append(dict(self.headers))
            self.server.paths.append(self.path)
            act = self.server.plan.pop(0) if self.server.plan else self.server.otherwise
        act(self)

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""

    def send(self, status: int, body: bytes, kind: str = "application/json", **more: str) -> None:
        """A whole answer."""
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def cut(self, body: bytes) -> None:
        """An answer that promises more than it sends, and breaks off."""
        self.send_response(200)
        self.send_header("content-length", str(len(body) + 100))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


class ChatServer(ThreadingHTTPServer):
    """`plan` is what it does with the next requests, `otherwise` with all after them."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.plan: list[Act] = []
        self.otherwise: Act = judge_by("good")
        self.over = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what some tests are about."""

    @property
    def url(self) -> str:
        """Where its API begins."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """A running server, stopped in the end with all who hang on it."""
    server = ChatServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def completion(text: str | None, **more: Any) -> dict[str, Any]:
    """A body of `chat/completions` in the documented form."""
    choice = {"index": 0, "finish_reason": "stop", **more}
    choice["message"] = {"role": "assistant", "content": text, **choice.get("message", {})}
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
    return {"object": "chat.completion", "choices": [choice], "usage": usage}


def says(text: str | None, **more: Any) -> Act:
    """A reply with this text."""
    return lambda handler: handler.send(200, json.dumps(completion(text, **more)).encode())


def status(code: int, message: str = "no", **headers: str) -> Act:
    """An error in the documented form."""
    body = json.dumps({"error": {"message": message, "type": "x"}}).encode()
    return lambda handler: handler.send(code, body, **headers)


def answers_in(asked: dict[str, Any]) -> dict[str, str]:
    """The texts under judgement by name, as they stand between the marks of a request."""
    user = asked["messages"][1]["content"]
    found = re.findall(r"<(answer[-AB]*) ([0-9a-f]{16})>\n(.*?)\n</\1 \2>", user, re.DOTALL)
    return {name: text for name, _, text in found}


def judge_by(word: str, place: str = "A") -> Act:
    """Prefers the answer that has the word; `place` where both have it, or none has."""

    def act(handler: Handler) -> None:
        answers = answers_in(handler.asked)
        has = [letter for letter in "AB" if word in answers.get(f"answer-{letter}", "")]
        text = has[0] if len(has) == 1 else place
        if "answer" in answers:
            text = "9" if word in answers["answer"] else "1"
        says(text)(handler)

    return act
