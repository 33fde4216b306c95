"""Connections: a socket, TLS on top of it, and the kernel's time of each read."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import ssl
import struct
import time
import traceback
from typing import Any, Callable, Iterator, TYPE_CHECKING

from stand_in.exchange import CLOSED, Exchange, FINISHING, OPEN
from stand_in.faults import BEFORE, Fault
from stand_in.http1 import Http1
from stand_in.http2 import Http2
from stand_in.messages import LINGER, READ_SIZE, Request, SECOND, UNPROCESSED_READS

if TYPE_CHECKING:
    from stand_in.server import Server

SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
TIMESPEC = struct.Struct("@ll")


def read_stamped(sock: socket.socket) -> tuple[bytes, int]:
    """Bytes, and when the kernel received the last of them, in nanoseconds."""
    data, ancillary, _, _ = sock.recvmsg(READ_SIZE, socket.CMSG_SPACE(TIMESPEC.size))
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            whole_seconds, nanoseconds = TIMESPEC.unpack(value)
            return data, whole_seconds * SECOND + nanoseconds
    return data, time.time_ns()


class Selector(selectors.DefaultSelector):
    """Remembers when it looked.  What is readable now, and was not at the last look, came after that began."""

    looks_at = looked_at = 0                    # when the last look began, and the one before it

    def select(self, timeout=None):
        self.looked_at, self.looks_at = self.looks_at, time.time_ns()
        return super().select(timeout)


class Connection:
    """A socket, TLS upon it, and a protocol upon that.

    readable() only reads; process() runs later, one read of one connection at a time.  See the top.
    """

    def __init__(self, server: Server, sock: socket.socket, number: int, fault: Fault | None):
        self.server, self.sock, self.number = server, sock, number
        self.fault = fault.part(BEFORE) if fault else None
        self.state = OPEN
        self.requests = 0                       # begun so far
        self.plain = bytearray()                # to be sent
        self.out = bytearray()                  # the same, encrypted
        self.unprocessed = 0                    # reads
        self.deaf = False
        self.arrived: list[Exchange] = []       # whole requests, to be handled
        self.arrival = self.earliest = 0        # of the last byte, and of any byte, of this read
        self.unseen = server.selector.looked_at     # since when it may have been readable unnoticed
        self.protocol: Http1 | Http2 | None = None
        self.tls: ssl.SSLObject | None = None
        self.timer: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server.context:
            context = server.strange_context if self.fault == "bad-certificate" else server.context
            self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        else:
            self.protocol = Http1(self)
        if self.fault == "slow-handshake":
            self.timer = server.loop.call_later(fault.parts[self.fault], self.begin)
        else:
            self.begin()
        if self.fault == "close-on-accept":
            self.close()

    def begin(self) -> None:
        self.server.loop.add_reader(self.sock, self.readable)
        self.touch()

    # Time ------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Starts the time in which the connection may be idle anew."""
        if self.timer:
            self.timer.cancel()
        if self.state is OPEN and self.fault != "hang-handshake":
            self.timer = self.server.loop.call_later(self.server.idle_timeout, self.idle)

    def idle(self) -> None:
        if not (self.protocol and self.protocol.busy()):
            self.guard(self.close, True)

    # Bytes in --------------------------------------------------------------------------------------

    def readable(self) -> None:
        now = time.time_ns()
        try:
            data, arrival = read_stamped(self.sock)
        except BlockingIOError:
            return
        except OSError:
            data, arrival = b"", now
        earliest = self.unseen or self.server.selector.looked_at
        self.unseen = earliest if len(data) == READ_SIZE else 0
        self.unprocessed += 1
        if not data or self.unprocessed >= UNPROCESSED_READS:
            self.server.loop.remove_reader(self.sock)
            self.unseen = self.unseen or now
        self.server.queue(self, data, arrival, earliest)

    def process(self, data: bytes, arrival: int, earliest: int) -> None:
        if self.state is CLOSED:
            return
        if not data:
            return self.drop()
        if self.unprocessed >= UNPROCESSED_READS:
            self.server.loop.add_reader(self.sock, self.readable)
        self.unprocessed -= 1
        if self.state is FINISHING or self.deaf or self.fault == "hang-handshake":
            return
        self.touch()
        self.earliest, self.arrival = min(max(self.arrival, earliest), arrival), arrival
        try:
            for plain in self.decrypt(data) if self.tls else [data]:
                if self.state is OPEN:
                    self.protocol.receive(plain)
        except ssl.SSLError:
            self.flush()                        # the alert
            self.drop()
        self.handle_arrived()

    def go_deaf(self) -> None:
        self.deaf = True

    def decrypt(self, data: bytes) -> Iterator[bytes]:
        self.incoming.write(data)
        try:
            if not self.protocol:
                self.tls.do_handshake()
                if self.fault == "close-before-read":
                    return self.close()
                self.protocol = Http2(self) if self.tls.selected_alpn_protocol() == "h2" else Http1(self)
            while plain := self.tls.read(READ_SIZE):
                yield plain
        except ssl.SSLWantReadError:
            pass

    def handle_arrived(self) -> None:
        """Handles the requests of this read, of which only one that ended it has exactly its time."""
        arrived, self.arrived = self.arrived, []
        for exchange in arrived:
            exchange.request.arrival, exchange.request.earliest = self.arrival, self.earliest
        if arrived and self.protocol and self.protocol.at_end_of_request() and not (self.tls and self.incoming.pending):
            arrived[-1].request.earliest = self.arrival
        for exchange in arrived:
            if self.state is OPEN:
                self.server.deliver(exchange)
            else:
                self.log_unserved(exchange.request, "unserved")

    def log_unserved(self, request: Request, outcome: str) -> None:
        request.arrival = request.earliest = self.arrival
        self.server.log(request, outcome)

    # Bytes out -------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Keeps data for the next flush(), which ends every step."""
        if self.state is OPEN:
            self.plain += data

    def flush(self) -> None:
        """Sends what can be sent now, and the rest when it can be."""
        if self.state is CLOSED:
            return
        if self.tls:
            while self.plain:
                del self.plain[:self.tls.write(self.plain)]
            self.out += self.outgoing.read()
        else:
            self.out += self.plain
            self.plain.clear()
        try:
            while self.out:
                del self.out[:self.sock.send(self.out)]
            if self.state is FINISHING:
                self.sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            self.server.loop.add_writer(self.sock, self.writable)
        except OSError:
            self.drop()

    def writable(self) -> None:
        self.server.loop.remove_writer(self.sock)
        self.flush()
        if self.state is OPEN and not self.out and self.protocol:
            self.guard(self.protocol.resume)

    # The end ---------------------------------------------------------------------------------------

    def close(self, orderly: bool = False) -> None:
        """FIN, after what is to be sent; after TLS's close_notify only if orderly.

        Reads on until the peer has closed too: bytes left unread would turn the FIN into a RST.
        """
        if orderly and self.protocol:
            self.protocol.say_goodbye()
            self.flush()
            if self.tls:
                with contextlib.suppress(ssl.SSLError):     # it waits for the peer's close_notify; we do not
                    self.tls.unwrap()
        if self.state is OPEN:
            self.state = FINISHING
            self.lost()
            self.timer.cancel()
            self.timer = self.server.loop.call_later(LINGER, self.drop)
            self.flush()

    def reset(self) -> None:
        if self.state is not CLOSED:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
            self.drop()

    def drop(self) -> None:
        if self.state is CLOSED:
            return
        self.lost()
        self.state = CLOSED
        if self.timer:
            self.timer.cancel()
        self.server.loop.remove_reader(self.sock)
        self.server.loop.remove_writer(self.sock)
        self.sock.close()

    def lost(self) -> None:
        """Nobody will be answered any more."""
        protocol, self.protocol = self.protocol, None
        if protocol:
            protocol.lost()

    def guard(self, step: Callable, *arguments: Any) -> None:
        """Runs a step.  A bug in it is shown, and costs this connection alone."""
        try:
            step(*arguments)
            self.flush()
        except Exception:
            traceback.print_exc()
            self.reset()
