"""A real HTTP server on 127.0.0.1 that answers each path as it was told to, good or bad."""

import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How one request is answered."""

    body: bytes = b""
    status: int = 200  # 0: hang up without a word
    etag: str | None = '"v1"'
    modified: str | None = None
    knows_range: bool = True
    knows_if_range: bool = True
    content_range: str | None = None  # in place of the true one
    length: int | None = -1  # of Content-Length; -1: the true one, None: none is sent
    cut: int | None = None  # bytes of the body after which the connection is closed
    stall: int | None = None  # bytes of the body after which nothing comes until the server stops
    location: str | None = None
    content_type: str | None = None
    reason: str | None = None  # in place of the status's own words
    more: tuple[tuple[str, str], ...] = ()  # headers
    slow: tuple[int, float] | None = None  # bytes of a piece, and seconds before the next


@dataclass(slots=True)
class Seen:
    """One request, and how many bytes of a body it was sent."""

    path: str
    headers: dict[str, str]
    sent: int = 0

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")


class Loopback(ThreadingHTTPServer):
    """`with Loopback() as server:` serves in a thread. A path's last answer is for all the rest."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.seen: list[Seen] = []
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.005,))

    def tell(self, path: str, *answers: Answer) -> str:
        """Answer `path` so from now on; returns its URL."""
        self.answers[path] = list(answers)
        return f"http://127.0.0.1:{self.server_port}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Loopback

    def do_GET(self) -> None:
        seen = Seen(self.path, dict(self.headers))
        self.server.seen.append(seen)
        answers = self.server.answers.get(self.path) or [Answer(status=404)]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if not answer.status:
            return
        status, start = self._part_asked_for(answer)
        body = answer.body[start:] if status in (200, 206) else answer.body
        self.send_response(status, answer.reason)
        for name, value in answer.more:
            self.send_header(name, value)
        for name, value in self._headers(answer, status, start, len(body)).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        for stop in sorted({answer.stall or 0, len(body)}):
            piece = body[seen.sent : min(stop, len(body) if answer.cut is None else answer.cut)]
            self._send(piece, answer, seen)
            if answer.stall is not None and stop == answer.stall:
                self.server.stopping.wait(30)

    def _send(self, data: bytes, answer: Answer, seen: Seen) -> None:
        size, pause_s = answer.slow or (max(1, len(data)), 0.0)
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            seen.sent += len(piece)  # before: who has read it may look at once
            self.wfile.write(piece)
            if pause_s and self.server.stopping.wait(pause_s):
                return

    def _part_asked_for(self, answer: Answer) -> tuple[int, int]:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if answer.status != 200 or not asked or not answer.knows_range:
            return answer.status, 0
        validator = self.headers.get("If-Range")
        if answer.knows_if_range and validator not in (None, answer.etag, answer.modified):
            return 200, 0
        start = int(asked[1])
        return (206, start) if start < len(answer.body) else (416, 0)

    @staticmethod
    def _headers(answer: Answer, status: int, start: int, size: int) -> dict[str, str | None]:
        whole = len(answer.body)
        spans = {206: f"bytes {start}-{whole - 1}/{whole}", 416: f"bytes */{whole}"}
        length = size if answer.length == -1 else answer.length
        return {
            "ETag": answer.etag,
            "Last-Modified": answer.modified,
            "Location": answer.location,
            "Content-Type": answer.content_type,
            "Content-Length": None if length is None else str(length),
            "Content-Range": answer.content_range or spans.get(status),
        }

    def log_message(self, *_: object) -> None:
        """Quiet."""
