"""Exchanges: a request and its answer on the wire."""

from __future__ import annotations

import asyncio
from typing import Iterator, TYPE_CHECKING

from stand_in.messages import Request

if TYPE_CHECKING:
    from stand_in.connection import Connection

Script = Iterator[float]
OPEN, FINISHING, CLOSED = "open", "finishing", "closed"     # states of a connection


class Exchange:
    """Plays the script of an answer.  Http1Exchange and Http2Exchange know the wire."""

    def __init__(self, connection: Connection, request: Request):
        self.connection, self.request = connection, request
        self.script: Script = iter(())
        self.timer: asyncio.TimerHandle | None = None
        self.waiting = self.cancelled = False

    def play(self, script: Script) -> None:
        self.script = script
        if not self.cancelled:
            self.connection.guard(self.step)

    def step(self) -> None:
        self.timer = None
        for pause in self.script:
            if self.cancelled:
                return
            if pause:
                self.timer = self.connection.server.loop.call_later(pause, self.connection.guard, self.step)
                return
            if not self.sent():
                self.waiting = True
                return

    def resume(self) -> None:
        """Goes on if what was written has been sent meanwhile."""
        if self.waiting and self.sent():
            self.waiting = False
            self.step()

    def cancel(self) -> None:
        self.cancelled, self.waiting = True, False
        if self.timer:
            self.timer.cancel()

    def sent(self) -> bool:
        self.connection.flush()
        return not self.connection.out


def read_headers(pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in pairs:
        headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
    return headers
