"""HTTP/2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import hyperframe.frame

from stand_in.exchange import Exchange, read_headers
from stand_in.messages import MAX_BODY, Reply, Request

if TYPE_CHECKING:
    from stand_in.connection import Connection


class Http2:
    """Streams of one connection, by the h2 library."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.exchanges: dict[int, Http2Exchange] = {}
        self.last_event: h2.events.Event | None = None      # of what was received last
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.h2.initiate_connection()           # by default 100 streams and 64 kB of headers
        self.transmit()

    def transmit(self) -> None:
        self.connection.send(self.h2.data_to_send())

    def receive(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self.transmit()                     # the library's GOAWAY
            return self.connection.close(orderly=True)
        self.last_event = events[-1] if events else None
        for event in events:
            self.on_event(event)
        self.resume()
        self.transmit()

    def on_event(self, event: h2.events.Event) -> None:
        exchange = self.exchanges.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.RequestReceived):
            self.exchanges[event.stream_id] = Http2Exchange(self, event.stream_id, self.read_head(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if exchange and len(exchange.request.body) <= MAX_BODY:
                exchange.request.body += event.data
        elif isinstance(event, h2.events.StreamEnded) and exchange:
            exchange.whole = True
            self.connection.arrived.append(exchange)
        elif isinstance(event, h2.events.StreamReset) and exchange:
            self.exchanges.pop(event.stream_id).lost()

    def read_head(self, pairs: list[tuple[bytes, bytes]]) -> Request:
        headers = read_headers((name.decode("latin-1"), value.decode("latin-1").strip()) for name, value in pairs)
        pseudo = {name: headers.pop(name) for name in list(headers) if name.startswith(":")}
        headers.setdefault("host", pseudo.get(":authority", ""))
        self.connection.requests += 1
        return Request(self.connection.number, self.connection.requests, "2",
                       pseudo[":method"], pseudo[":path"], headers)

    def at_end_of_request(self) -> bool:
        return isinstance(self.last_event, h2.events.StreamEnded)

    def busy(self) -> bool:
        return any(exchange.whole for exchange in self.exchanges.values())

    def resume(self) -> None:
        for exchange in list(self.exchanges.values()):
            exchange.pump()
            exchange.resume()

    def say_goodbye(self) -> None:
        self.h2.close_connection()
        self.transmit()

    def lost(self) -> None:
        for exchange in self.exchanges.values():
            exchange.lost()


class Http2Exchange(Exchange):
    """A stream.  What the peer's window does not admit waits in `queue`."""

    def __init__(self, protocol: Http2, stream: int, request: Request):
        super().__init__(protocol.connection, request)
        self.protocol, self.h2, self.stream = protocol, protocol.h2, stream
        self.queue = bytearray()
        self.whole = self.ended = False

    def lost(self) -> None:
        self.cancel()
        if not self.whole:
            self.connection.log_unserved(self.request, "cut")

    def head(self, reply: Reply, share: float = 1) -> None:
        headers = reply.headers | {"Content-Length": str(len(reply.body))}
        self.protocol.transmit()
        self.h2.send_headers(self.stream, [(":status", str(reply.status))]
                             + [(name.lower(), value) for name, value in headers.items()])
        head = self.h2.data_to_send()
        self.connection.send(head[:int(len(head) * share)])

    def body(self, data: bytes, last: bool = False) -> None:
        """The last piece ends the stream itself, as most servers have it, and not an empty frame after it."""
        self.queue += data
        self.ended = last
        self.pump()

    def end(self) -> None:
        self.ended = True
        self.pump()

    def pump(self) -> None:
        while self.queue and not self.cancelled:
            size = min(self.h2.local_flow_control_window(self.stream), self.h2.max_outbound_frame_size)
            if size <= 0:
                break
            last = self.ended and size >= len(self.queue)
            self.h2.send_data(self.stream, bytes(self.queue[:size]), end_stream=last)
            del self.queue[:size]
            if last:
                self.done()
        if self.ended and not self.queue and not self.cancelled:
            self.h2.end_stream(self.stream)
            self.done()
        self.protocol.transmit()

    def done(self) -> None:
        self.cancel()
        self.protocol.exchanges.pop(self.stream, None)
        self.connection.touch()

    def sent(self) -> bool:
        return not self.queue and super().sent()

    def open_head(self, reply: Reply) -> None:
        block = self.h2.encoder.encode([(":status", str(reply.status))])
        self.connection.send(hyperframe.frame.HeadersFrame(self.stream, block).serialize())

    def more_head(self, name: str, value: str) -> None:
        block = self.h2.encoder.encode([(name, value)])
        self.connection.send(hyperframe.frame.ContinuationFrame(self.stream, block).serialize())

    def reset_stream(self, code: int) -> None:
        self.h2.reset_stream(self.stream, code)
        self.done()
        self.protocol.transmit()

    def goaway(self, processed: bool) -> None:
        self.h2.close_connection(last_stream_id=self.stream if processed else max(self.stream - 2, 0))
        self.protocol.transmit()
        self.connection.close()
