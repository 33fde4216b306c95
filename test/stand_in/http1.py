"""HTTP/1.1."""

from __future__ import annotations

import http.client
import re
from typing import Iterator, TYPE_CHECKING

from stand_in.exchange import Exchange, OPEN, read_headers
from stand_in.messages import MAX_BODY, MAX_HEAD, Reply, Request

if TYPE_CHECKING:
    from stand_in.connection import Connection


class BadHttp(Exception):
    """Bytes that are no HTTP/1.1 request."""


class Http1:
    """Reads one request after the other, in a generator that yields for want of bytes."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.buffer = bytearray()
        self.request: Request | None = None         # the one that is being read
        self.exchange: Http1Exchange | None = None  # the one that is being answered
        self.reader = self.read_requests()

    def receive(self, data: bytes) -> None:
        self.buffer += data
        if self.exchange and len(self.buffer) > MAX_HEAD + MAX_BODY:
            return self.connection.reset()
        self.read()

    def read(self) -> None:
        try:
            next(self.reader)
        except BadHttp as error:
            self.connection.log_unserved(self.partial(), "malformed")
            self.connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                                 b"Connection: close\r\n\r\n" + f"{error}\n".encode())
            self.request = None
            self.buffer.clear()
            self.connection.close(orderly=True)

    def read_requests(self) -> Iterator[None]:
        while True:
            head = yield from self.until(b"\r\n\r\n", MAX_HEAD)
            request = self.request = self.read_head(head.decode("latin-1"))
            keep = request.headers.get("connection", "").lower() != "close"
            if request.headers.get("expect", "").lower() == "100-continue" and not self.buffer:
                self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            if "transfer-encoding" in request.headers:
                yield from self.read_chunks(request)
            else:
                length = int(self.checked(r"[0-9]{1,15}", request.headers.get("content-length", "0"))[0])
                request.body = yield from self.exactly(min(length, MAX_BODY + 1))
                keep = keep and length <= MAX_BODY
            self.request, self.exchange = None, Http1Exchange(self.connection, request, self, keep)
            self.connection.arrived.append(self.exchange)
            while self.exchange:
                yield

    def read_head(self, head: str) -> Request:
        first, *lines = head.split("\r\n")
        method, target = self.checked(r"([A-Z]+) (\S+) HTTP/1\.1", first).groups()
        pairs = (self.checked(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", line).groups() for line in lines)
        self.connection.requests += 1
        return Request(self.connection.number, self.connection.requests, "1.1", method, target, read_headers(pairs))

    def read_chunks(self, request: Request) -> Iterator[None]:
        self.checked("(?i:chunked)", request.headers["transfer-encoding"])
        if "content-length" in request.headers:
            raise BadHttp("both Content-Length and Transfer-Encoding")
        size = -1
        while size:
            line = yield from self.until(b"\r\n", 1024)
            size = int(self.checked("([0-9a-fA-F]{1,8})(;.*)?", line.decode("latin-1"))[1], 16)
            if len(request.body) + size > MAX_BODY:
                raise BadHttp("too many chunks")
            request.body += yield from self.exactly(size)
            self.checked("", (yield from self.until(b"\r\n", 1024)).decode("latin-1"))

    @staticmethod
    def checked(pattern: str, text: str) -> re.Match:
        match = re.fullmatch(pattern, text)
        if not match:
            raise BadHttp(f"not well-formed: {text[:200]!r}")
        return match

    def until(self, mark: bytes, limit: int) -> Iterator[None]:
        while (end := self.buffer.find(mark)) < 0:
            if len(self.buffer) > limit:
                raise BadHttp("too long")
            yield
        found = bytes(self.buffer[:end])
        del self.buffer[:end + len(mark)]
        return found

    def exactly(self, size: int) -> Iterator[None]:
        while len(self.buffer) < size:
            yield
        found = bytes(self.buffer[:size])
        del self.buffer[:size]
        return found

    def done(self, keep: bool) -> None:
        """The exchange has ended: on to the next request, which may be here already."""
        self.exchange = None
        if keep:
            self.connection.touch()
            if self.buffer:
                self.connection.server.loop.call_soon(self.connection.guard, self.read_next)
        else:
            self.connection.close(orderly=True)

    def read_next(self) -> None:
        if self.connection.state is OPEN and not self.exchange:
            self.read()
            self.connection.handle_arrived()

    def at_end_of_request(self) -> bool:
        return not self.buffer

    def busy(self) -> bool:
        return self.exchange is not None

    def resume(self) -> None:
        if self.exchange:
            self.exchange.resume()

    def say_goodbye(self) -> None:
        pass

    def partial(self) -> Request:
        return self.request or Request(self.connection.number, self.connection.requests + 1, "1.1", "", "", {})

    def lost(self) -> None:
        if self.exchange:
            self.exchange.cancel()
        elif self.request or self.buffer:
            self.connection.log_unserved(self.partial(), "cut")


class Http1Exchange(Exchange):
    def __init__(self, connection: Connection, request: Request, protocol: Http1, keep: bool):
        super().__init__(connection, request)
        self.protocol, self.keep = protocol, keep

    def head(self, reply: Reply, share: float = 1) -> None:
        headers = reply.headers | {"Content-Length": str(len(reply.body)),
                                   "Connection": "keep-alive" if self.keep else "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{self.status_line(reply)}{lines}\r\n".encode("latin-1")
        self.connection.send(head[:int(len(head) * share)])

    @staticmethod
    def status_line(reply: Reply) -> str:
        return f"HTTP/1.1 {reply.status} {http.client.responses.get(reply.status, 'Unknown')}\r\n"

    def body(self, data: bytes, last: bool = False) -> None:
        self.connection.send(data)

    def end(self) -> None:
        self.protocol.done(self.keep)

    def open_head(self, reply: Reply) -> None:
        self.connection.send(self.status_line(reply).encode())

    def more_head(self, name: str, value: str) -> None:
        self.connection.send(f"{name}: {value}\r\n".encode())

    def reset_stream(self, code: int) -> None:
        self.connection.close()

    def goaway(self, processed: bool) -> None:
        self.connection.close()
