"""The server: it accepts, judges, finds faults, and has verdicts take effect."""

import argparse
import asyncio
import collections
import hashlib
import itertools
import os
import re
import socket
import time
import traceback
from typing import Any

from stand_in.api import Api, Verdict, seconds_of
from stand_in.certificates import tls_context
from stand_in.connection import Connection, SO_TIMESTAMPNS, Selector
from stand_in.exchange import Exchange
from stand_in.faults import BadOrder, Fault, Faults, whole
from stand_in.ledger import Journal, Tasks
from stand_in.messages import ApiError, HOST, LOCAL_NAME, ORDERS_INTERVAL, Reply, Request, SECOND, error_response
from stand_in.network import Network


class Server:
    """Listens, and brings requests, rules, faults and tasks together."""

    def __init__(self, selector: Selector, loop: asyncio.AbstractEventLoop, options: argparse.Namespace):
        def file(name):
            return os.path.join(options.dir, name)

        self.selector, self.loop, self.idle_timeout = selector, loop, options.idle_timeout
        self.directory = options.dir
        self.context = self.strange_context = None
        if not options.plain:
            protocols = ["http/1.1"] if options.http1 else ["h2", "http/1.1"]
            self.context = tls_context(options.dir, "ca", "server", options.name, protocols)
            self.strange_context = tls_context(options.dir, "stranger-ca", "stranger", options.name, protocols)
        self.tasks = Tasks(file("ledger"), options.template)
        self.network = Network()
        self.api = Api(options.account, options.limit, options.page_size, options.separate, self.tasks, self.network,
                       options.edition, options.dir)
        self.faults = Faults(file("orders"), self.refuse, self.network)
        self.journal = Journal(file("requests"))
        self.connections = itertools.count(1)
        self.inbox: collections.deque[tuple[Connection, bytes, int, int]] = collections.deque()
        self.listen_timer: asyncio.TimerHandle | None = None
        # The port stays ours while nobody listens: another socket is bound to it.
        self.address = HOST if options.name == LOCAL_NAME else ""
        self.reservation = bound_socket(self.address, options.port)
        self.port = self.reservation.getsockname()[1]
        self.listener: socket.socket | None = None
        self.listen()
        self.poll_orders()

    # Listening -------------------------------------------------------------------------------------

    def listen(self) -> None:
        self.listener = bound_socket(self.address, self.port)
        self.listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)      # inherited by connections
        self.listener.setblocking(False)
        self.listener.listen(1024)
        self.loop.add_reader(self.listener, self.accept)

    def refuse(self, duration: float) -> None:
        if self.listener:
            self.loop.remove_reader(self.listener)
            self.listener.close()
            self.listener = None
        if self.listen_timer:
            self.listen_timer.cancel()
        self.listen_timer = self.loop.call_later(duration, self.listen)

    def accept(self) -> None:
        self.faults.poll()
        while self.listener:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            Connection(self, sock, next(self.connections), self.faults.for_connection())

    def poll_orders(self) -> None:
        self.faults.poll()
        self.loop.call_later(ORDERS_INTERVAL, self.poll_orders)

    # Work, one read at a time, all sockets being read in between -----------------------------------

    def queue(self, connection: Connection, data: bytes, arrival: int, earliest: int) -> None:
        self.inbox.append((connection, data, arrival, earliest))
        if len(self.inbox) == 1:
            self.loop.call_soon(self.work)

    def work(self) -> None:
        connection, *read = self.inbox[0]
        connection.guard(connection.process, *read)
        self.inbox.popleft()
        if self.inbox:
            self.loop.call_soon(self.work)

    # Requests --------------------------------------------------------------------------------------

    def deliver(self, exchange: Exchange) -> None:
        """Handles a request when the network has brought it here."""
        request = exchange.request
        delay = self.network.delay(request.arrival)
        request.arrival += delay
        request.earliest += delay
        if delay:
            self.loop.call_later((request.arrival - time.time_ns()) / SECOND, exchange.connection.guard, self.handle, exchange)
        else:
            self.handle(exchange)

    def handle(self, exchange: Exchange) -> None:
        request = exchange.request
        try:
            self.faults.poll()
            verdict = self.judge(request)
            fault, order = self.find_fault(request, verdict)
            if fault:
                fault.amend(verdict, self.tasks)
            event = verdict.event if not fault or fault.takes_effect() else None
            if event:
                self.tasks.record(event)
            self.log(request, fault.outcome(verdict) if fault else verdict.outcome, fault=fault and fault.text,
                     order=order, task_id=event and event.get("task_id"))
            script = fault.script(exchange, verdict.response) if fault else whole(exchange, Reply.api(verdict.response))
        except BadOrder as mistake:
            self.log(request, "mistake")
            script = whole(exchange, Reply.page(400, str(mistake)))
        except Exception as bug:
            traceback.print_exc()
            self.log(request, "bug")
            script = whole(exchange, Reply.page(500, "bug", **{"X-Stand-In-Bug": type(bug).__name__}))
        exchange.play(script)

    def judge(self, request: Request) -> Verdict:
        try:
            return self.api.judge(request)
        except ApiError as error:
            return Verdict(error.code, error_response(request.id, error.code, error.message))

    def find_fault(self, request: Request, verdict: Verdict) -> tuple[Fault | None, Any]:
        """Nothing at all is done with a request beyond the limit, and no fault is spent on it."""
        if verdict.outcome == "RequestLimitExceeded":
            return None, None
        return self.faults.for_request(request)

    def log(self, request: Request, outcome: str, **more: Any) -> None:
        headers = dict(request.headers)
        if "authorization" in headers:
            headers["authorization"] = re.sub("Signature=.*", "Signature=-", headers["authorization"])
        self.journal.write({
            "time": seconds_of(request.arrival), "earliest": seconds_of(request.earliest),
            "connection": request.connection, "ordinal": request.ordinal, "http": request.http,
            "method": request.method, "target": request.target, "action": request.action,
            "stream_name": request.stream_name, "secret_id": request.secret_id, "outcome": outcome,
            "fault": None, "order": None, "task_id": None} | more | {
            "request_id": request.id, "body_sha256": hashlib.sha256(request.body).hexdigest(),
            "headers": headers})


def bound_socket(address: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    return sock
