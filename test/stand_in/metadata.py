"""The metadata service of a machine, which hands out temporary credentials."""

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import time
from typing import Any

from stand_in.ledger import Journal
from stand_in.messages import HOST
from stand_in.signature import Account


class Metadata:
    """The metadata service of a machine that has a role: plain HTTP on a port of its own, in
    DIR/metadata_port.  DIR/metadata_requests records what was asked.

    DIR/metadata is read at each request.  It is a JSON object with any of `role`, its name; `lives`, how
    many seconds the first, second, ... set lives, the last one for all others too; and `name` and `set`,
    what to answer to a request for either instead: `status`, `body`, `repeat` (of the body), `hang`.
    `delay` is in seconds, for every answer.
    """

    PATH = "/latest/meta-data/cam/security-credentials/"

    def __init__(self, directory: str, accounts: dict[str, Account]):
        self.directory, self.accounts = directory, accounts
        self.sets = itertools.count(1)
        self.journal = Journal(os.path.join(directory, "metadata_requests"))

    async def listen(self) -> None:
        # A restart is on the same port.
        path = os.path.join(self.directory, "metadata_port")
        with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as file:
            self.server = await asyncio.start_server(self.serve, HOST, int(file.read()))
            return
        self.server = await asyncio.start_server(self.serve, HOST, 0)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{self.server.sockets[0].getsockname()[1]}\n")

    def orders(self) -> dict[str, Any]:
        try:
            with open(os.path.join(self.directory, "metadata"), "rb") as file:
                return json.load(file)
        except FileNotFoundError:
            return {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *headers = head.strip().split("\r\n")
            status, body = self.answer(line, headers)
            await asyncio.sleep(self.orders().get("delay", 0))
            if status is None:
                await reader.read()             # until the peer has had enough
            else:
                reason = http.client.responses[status]
                writer.write(f"HTTP/1.1 {status} {reason}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        writer.close()

    def answer(self, line: str, headers: list[str]) -> tuple[int | None, bytes]:
        orders = self.orders()
        role = orders.get("role", "screenshots")
        method, target, _ = line.split(" ", 2)
        asked = {self.PATH: "name", self.PATH + role: "set"}.get(target)
        self.journal.write({"time": time.time(), "method": method, "target": target, "asked": asked,
                            "headers": headers})
        if method != "GET" or asked is None:
            return 404, b"not found\n"
        if asked in orders:
            order = orders[asked]
            if order.get("hang"):
                return None, b""
            return order.get("status", 200), order.get("body", "").encode() * order.get("repeat", 1)
        if asked == "name":
            return 200, role.encode()
        return 200, self.next_set(orders.get("lives", [3600]))

    def next_set(self, lives: list[int]) -> bytes:
        number = next(self.sets)
        ends = int(time.time()) + lives[min(number, len(lives)) - 1]
        account = Account(f"AKIDROLE{number}", f"roleKeyNobodyMaySee{number}", f"roleTokenNobodyMaySee{number}=")
        self.accounts[account.secret_id] = account
        return json.dumps({
            "TmpSecretId": account.secret_id, "TmpSecretKey": account.secret_key, "ExpiredTime": ends,
            "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends)), "Token": account.token,
            "Code": "Success"}).encode()
