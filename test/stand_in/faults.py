"""Faults: what each does to an answer or a connection, and how they are ordered."""

from __future__ import annotations

import fnmatch
import gzip
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable

import h2.errors

from stand_in.api import PARAMETERS, Verdict, is_integer, is_name
from stand_in.exchange import Exchange, Script
from stand_in.ledger import Tasks, random_text
from stand_in.messages import ApiError, MAX_BODY, READ_SIZE, Reply, Request, error_response, http_date, read_object
from stand_in.network import Network

# An answer fault makes another Reply of the response.  A wire fault decides how a reply is put on the
# wire: a generator that yields to let time pass, a number of seconds, or 0 for "until it has been sent".


def whole(exchange: Exchange, reply: Reply, _=None) -> Script:
    """No fault at all."""
    exchange.head(reply)
    for at in range(0, len(reply.body), READ_SIZE):
        exchange.body(reply.body[at:at + READ_SIZE], last=at + READ_SIZE >= len(reply.body))
        yield 0
    exchange.end()


def slow_body(exchange: Exchange, reply: Reply, duration: float) -> Script:
    exchange.head(reply)
    steps = min(20, len(reply.body))
    for step in range(steps):
        yield duration / steps
        exchange.body(reply.body[len(reply.body) * step // steps:len(reply.body) * (step + 1) // steps])
    exchange.end()


def half(exchange: Exchange, reply: Reply, _) -> None:
    exchange.head(reply)
    exchange.body(reply.body[:len(reply.body) // 2])
    exchange.connection.close()


def truncate_headers(exchange: Exchange, reply: Reply, _) -> None:
    exchange.head(reply, share=0.5)
    exchange.connection.close()


def endless_headers(exchange: Exchange, reply: Reply, _) -> Script:
    exchange.open_head(reply)
    while True:
        exchange.more_head("x-endless", "a" * 1000)
        yield 0
        yield 0.001


def reuse_close_refuse(exchange: Exchange, reply: Reply, duration: float) -> None:
    exchange.connection.server.refuse(duration)
    exchange.connection.close()


def answer_error(response: dict, code: str) -> Reply:
    return Reply.api(error_response(response["RequestId"], code, "ordered by a test"))


def answer_bad_utf8(response: dict, _) -> Reply:
    reply = answer_error(response, "InternalError")
    reply.body = reply.body.replace(b"ordered", b"\xff")
    return reply


def answer_both(response: dict, _) -> Reply:
    error = error_response(response["RequestId"], "InternalError", "ordered by a test")
    return Reply.api({"TaskId": random_text(57)} | error)


def answer_task_id(make: Callable[[], Any]) -> Callable[[dict, Any], Reply]:
    return lambda response, _: Reply.api({"TaskId": make(), "RequestId": response["RequestId"]})


def answer_huge(response: dict, _) -> Reply:
    return Reply.api(response | {"Padding": "x" * MAX_BODY})


def answer_null_list(response: dict, _) -> Reply:
    return Reply.api({list_key(response): None, "ScrollToken": "", "RequestId": response["RequestId"]})


def answer_nameless_null_list(response: dict, _) -> Reply:
    return Reply.api({list_key(response): None, "ScrollToken": ""})


def list_key(response: dict) -> str:
    return "Templates" if "Templates" in response else "TaskList"


def answer_odd_template(response: dict, number: str) -> Reply:
    reply = Reply.api({"Templates": [{"TemplateId": "?", "TemplateName": "x"}], "RequestId": response["RequestId"]})
    reply.body = reply.body.replace(b'"?"', number.encode())
    return reply


def answer_odd_list(response: dict, number: str) -> Reply:
    task = {name: "x" for name in ("TaskId", "StreamName", "DomainName", "AppName")} | {"EndTime": 1, "TemplateId": 1, "Stopped": 0}
    reply = Reply.api({"TaskList": [task | {"StartTime": "?"}], "ScrollToken": "", "RequestId": response["RequestId"]})
    reply.body = reply.body.replace(b'"?"', number.encode())
    return reply


def answer_gzip(response: dict, _) -> Reply:
    reply = Reply.api(response)
    reply.headers["Content-Encoding"] = "gzip"
    reply.body = gzip.compress(reply.body)
    return reply


def word(text: str) -> str:
    if not text:
        raise ValueError("empty")
    return text


def seconds(text: str) -> float:
    if not 0 <= float(text) <= 3600:
        raise ValueError("not between 0 and 3600")
    return float(text)


def offset(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError("not finite")
    return float(text)


def count(smallest: int, largest: int = 1 << 30) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not smallest <= int(text) <= largest:
            raise ValueError(f"not between {smallest} and {largest}")
        return int(text)
    return convert


def h2_code(text: str) -> int:
    return int(text) if text.isdigit() else int(h2.errors.ErrorCodes[text])


# When a fault strikes: MODIFIERS go with any of the others, of ANSWER and WIRE there may be one each.
BEFORE, ANSWER, WIRE, MODIFIER = "before the request is read", "answer", "wire", "modifier"
SPOILS, KEEPS = True, False


@dataclass
class Kind:
    when: str
    spoils: bool                # the client has no answer, or none that says what happened
    value: Callable[[str], Any] | None
    sentence: str
    act: Callable | None = None


FAULTS = {
    "refuse": Kind(BEFORE, SPOILS, seconds, "Stop listening for so many seconds, from now on."),
    "close-on-accept": Kind(BEFORE, SPOILS, None, "FIN at once."),
    "hang-handshake": Kind(BEFORE, SPOILS, None, "Accept, and never answer the ClientHello."),
    "bad-certificate": Kind(BEFORE, SPOILS, None, "Present a certificate of another, unknown CA."),
    "slow-handshake": Kind(BEFORE, SPOILS, seconds, "Answer the ClientHello after so many seconds."),
    "close-before-read": Kind(BEFORE, SPOILS, None, "FIN after the TLS handshake."),

    "error": Kind(ANSWER, SPOILS, word, "Answer this error code.", answer_error),
    "status": Kind(ANSWER, SPOILS, count(200, 599), "Answer this HTTP status, with HTML.",
                   lambda response, status: Reply.page(status, "ordered by a test")),
    "redirect": Kind(ANSWER, SPOILS, word, "302 to this URL (without comma or #).",
                     lambda response, url: Reply.page(302, "moved", Location=url)),
    "not-json": Kind(ANSWER, SPOILS, None, "200 with HTML.", lambda response, _: Reply.page(200, "welcome")),
    "empty": Kind(ANSWER, SPOILS, None, "200 with no body.",
                  lambda response, _: Reply(200, {"Content-Type": "application/json"}, b"")),
    "huge": Kind(ANSWER, SPOILS, None, "10 MB of JSON.", answer_huge),
    "gzip": Kind(ANSWER, SPOILS, None, "A compressed body, although not asked for.", answer_gzip),
    "no-task-id": Kind(ANSWER, SPOILS, None, "Neither TaskId nor Error.",
                       lambda response, _: Reply.api({"RequestId": response["RequestId"]})),
    "both": Kind(ANSWER, SPOILS, None, "TaskId and Error together.", answer_both),
    "wrong-type": Kind(ANSWER, SPOILS, None, "TaskId is a number.", answer_task_id(lambda: 20001)),
    "nul": Kind(ANSWER, SPOILS, None, "TaskId contains \\u0000.",
                answer_task_id(lambda: random_text(28) + "\0" + random_text(28))),
    "long-task-id": Kind(ANSWER, SPOILS, None, "TaskId has 1 MB.",
                         answer_task_id(lambda: random_text(64) * (1 << 14))),
    "bad-utf8": Kind(ANSWER, SPOILS, None, "An InternalError with 0xFF in its message.", answer_bad_utf8),

    "endless-list": Kind(ANSWER, SPOILS, None, "A page without tasks whose ScrollToken is the same each time.",
                         lambda response, _: Reply.api({"TaskList": [], "ScrollToken": "again", "RequestId": response["RequestId"]})),
    "null-list": Kind(ANSWER, SPOILS, None, "A list, of tasks or templates, that is null.", answer_null_list),
    "nameless-null-list": Kind(ANSWER, SPOILS, None, "The same without a RequestId.", answer_nameless_null_list),
    "odd-template": Kind(ANSWER, SPOILS, word, "A list with a template whose TemplateId is this JSON.", answer_odd_template),
    "odd-list": Kind(ANSWER, SPOILS, word, "A page with a task whose StartTime is this JSON.", answer_odd_list),

    "close": Kind(WIRE, SPOILS, None, "FIN without an answer.",
                  lambda exchange, *_: exchange.connection.close()),
    "reset": Kind(WIRE, SPOILS, None, "RST without an answer.",
                  lambda exchange, *_: exchange.connection.reset()),
    "hang": Kind(WIRE, SPOILS, None, "Never answer; the connection stays open.", lambda *_: None),
    "deaf": Kind(WIRE, SPOILS, None, "Never answer, nor read what else comes on this connection; it stays open.",
                 lambda exchange, *_: exchange.connection.go_deaf()),
    "half": Kind(WIRE, SPOILS, None, "Half of the answer, then FIN.", half),
    "truncate-headers": Kind(WIRE, SPOILS, None, "Half of the answer's headers, then FIN.", truncate_headers),
    "endless-headers": Kind(WIRE, SPOILS, None, "Headers without end.", endless_headers),
    "slow-body": Kind(WIRE, KEEPS, seconds, "The body, dribbled over so many seconds.", slow_body),
    "h2-refuse": Kind(WIRE, SPOILS, None, "RST_STREAM, REFUSED_STREAM; over HTTP/1.1 as close.",
                      lambda exchange, *_: exchange.reset_stream(h2.errors.ErrorCodes.REFUSED_STREAM)),
    "h2-reset": Kind(WIRE, SPOILS, h2_code, "RST_STREAM with this code, a number or name; over HTTP/1.1 as close.",
                     lambda exchange, _, code: exchange.reset_stream(code)),
    "goaway": Kind(WIRE, SPOILS, None, "GOAWAY that leaves this stream out, then FIN; over HTTP/1.1 as close.",
                   lambda exchange, *_: exchange.goaway(processed=False)),
    "goaway-after": Kind(WIRE, SPOILS, None, "GOAWAY that includes this stream, then FIN; over HTTP/1.1 as close.",
                         lambda exchange, *_: exchange.goaway(processed=True)),
    "reuse-close": Kind(WIRE, SPOILS, None, "On a connection that has served a request before: as close.",
                        lambda exchange, *_: exchange.connection.close()),
    "reuse-close-refuse": Kind(WIRE, SPOILS, seconds, "The same, and stop listening for so many seconds.",
                               reuse_close_refuse),

    "delay": Kind(MODIFIER, KEEPS, seconds, "Wait so many seconds before the answer."),
    "until": Kind(MODIFIER, KEEPS, word, "Wait until there is a file of this name in DIR before the answer."),
    "escaped": Kind(MODIFIER, KEEPS, None, "The answer's JSON is in ASCII, with escapes."),
    "date": Kind(MODIFIER, KEEPS, offset, "The Date header is off by so many seconds."),
    "task-id-len": Kind(MODIFIER, KEEPS, count(8), "The task made has a TaskId of this length."),
    "create": Kind(MODIFIER, KEEPS, None, "The request takes effect although its answer is spoiled."),
    "times": Kind(MODIFIER, KEEPS, count(1), "Only the first so many requests with this stream name suffer it."),
}


# Faults: how they are ordered -------------------------------------------------------------------------

class BadOrder(Exception):
    """A mistake in a test's order."""


def shown(mistake: BadOrder) -> BadOrder:
    print(f"live_api: {mistake}", file=sys.stderr, flush=True)
    return mistake


@dataclass
class Fault:
    """An order such as `half,create`, read: the value of each part by its name."""
    text: str
    parts: dict[str, Any]

    @classmethod
    def read(cls, text: str) -> "Fault":
        parts: dict[str, Any] = {}
        for part in text.partition("#")[0].split(","):
            name, equals, value = part.partition("=")
            kind = FAULTS.get(name)
            if kind is None:
                raise BadOrder(f"unknown fault {name!r} in {text!r}")
            if bool(equals) != bool(kind.value):
                raise BadOrder(f"fault {name!r} {'lacks a' if kind.value else 'takes no'} value in {text!r}")
            try:
                parts[name] = kind.value(value) if kind.value else True
            except (ValueError, KeyError) as error:
                raise BadOrder(f"bad value of fault {name!r} in {text!r}: {error}")
        whens = [FAULTS[name].when for name in parts]
        if any(whens.count(when) > 1 for when in (BEFORE, ANSWER, WIRE)) or BEFORE in whens and len(whens) > 1:
            raise BadOrder(f"faults that cannot be combined in {text!r}")
        return cls(text, parts)

    def part(self, when: str) -> str | None:
        return next((name for name in self.parts if FAULTS[name].when == when), None)

    def strikes(self, request: Request) -> bool:
        return request.ordinal > 1 or not self.parts.keys() & {"reuse-close", "reuse-close-refuse"}

    def takes_effect(self) -> bool:
        return "create" in self.parts or not any(FAULTS[name].spoils for name in self.parts)

    def outcome(self, verdict: Verdict) -> str:
        name = next((name for when in (WIRE, ANSWER) if (name := self.part(when)) and FAULTS[name].spoils), None)
        return self.parts[name] if name == "error" else name or verdict.outcome

    def amend(self, verdict: Verdict, tasks: Tasks) -> None:
        if "task-id-len" in self.parts and verdict.event and verdict.event["event"] == "create":
            verdict.event["task_id"] = verdict.response["TaskId"] = tasks.new_id(self.parts["task-id-len"])

    def script(self, exchange: Exchange, response: dict[str, Any]) -> Script:
        answer, wire = self.part(ANSWER), self.part(WIRE)
        reply = FAULTS[answer].act(response, self.parts[answer]) if answer else Reply.api(response)
        if "escaped" in self.parts:
            reply.body = json.dumps(json.loads(reply.body)).encode()
        if "date" in self.parts:
            reply.headers["Date"] = http_date(self.parts["date"])
        if "delay" in self.parts:
            yield self.parts["delay"]
        while "until" in self.parts and not os.path.exists(os.path.join(exchange.connection.server.directory, self.parts["until"])):
            yield 0.02
        if wire:
            yield from FAULTS[wire].act(exchange, reply, self.parts[wire]) or ()
        else:
            yield from whole(exchange, reply)


@dataclass
class Order:
    """A line of the file `orders`."""
    fault: Fault
    times: float = 1            # left
    id: Any = None
    action: str | None = None
    stream: str | None = None
    secret_id: str | None = None

    @classmethod
    def read(cls, line: dict[str, Any]) -> "Order":
        if unknown := line.keys() - {"fault", "times", "id", "action", "stream", "secret_id"}:
            raise BadOrder(f"unknown key {unknown.pop()!r} in an order")
        if not is_name(line.get("fault")) or not is_integer(line.get("times", 1)):
            raise BadOrder("an order needs a text `fault` and an integer `times`")
        if line.get("action") not in (None, *PARAMETERS):
            raise BadOrder(f"an order has the unknown action {line['action']!r}")
        order = cls(**line | {"fault": Fault.read(line["fault"]), "times": line.get("times", 1) or math.inf})
        if "times" in order.fault.parts:
            raise BadOrder(f"`times` stands beside the fault in an order, not in {line['fault']!r}")
        if order.fault.part(BEFORE) and (order.action or order.stream or order.secret_id):
            raise BadOrder(f"{line['fault']!r} strikes before there is an action, stream or secret_id")
        return order

    def matches(self, request: Request) -> bool:
        return ((self.action is None or self.action == request.action)
                and (self.secret_id is None or self.secret_id == request.secret_id)
                and (self.stream is None or request.stream_name is not None
                     and fnmatch.fnmatchcase(request.stream_name, self.stream))
                and self.fault.strikes(request))


class Faults:
    """The faults that are ordered: by lines appended to a file, and by stream names."""

    def __init__(self, path: str, refuse: Callable[[float], None], network: Network):
        self.path, self.refuse, self.network = path, refuse, network
        self.orders: list[Order] = []
        self.mistakes: list[BadOrder] = []          # each to be told to one request
        self.suffered: dict[str, int] = {}          # stream name with times= -> times
        open(path, "ab").close()
        self.offset = os.stat(path).st_size         # older orders are history

    def poll(self) -> None:
        """Reads the lines that were appended to the file since the last time."""
        size = os.stat(self.path).st_size if os.path.exists(self.path) else 0
        if size < self.offset:
            self.offset = 0                         # the file was made anew
        if size == self.offset:
            return
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            lines = file.read().split(b"\n")[:-1]
        for line in lines:
            self.offset += len(line) + 1
            self.obey(line)

    def obey(self, line: bytes) -> None:
        try:
            order = read_object(line)
            if order == {"clear": True}:
                self.orders.clear()
                self.mistakes.clear()
                return
            if order.keys() == {"network"}:
                self.network.obey(order["network"])
                return
            order = Order.read(order)
        except ApiError as error:
            self.mistakes.append(shown(BadOrder(f"order {line!r}: {error.message}")))
        except BadOrder as mistake:
            self.mistakes.append(shown(mistake))
        else:
            if "refuse" in order.fault.parts:
                self.refuse(order.fault.parts["refuse"])
            else:
                self.orders.append(order)

    def take(self, order: Order) -> Order:
        order.times -= 1
        if order.times <= 0:
            self.orders.remove(order)
        return order

    def for_connection(self) -> Fault | None:
        for order in self.orders:
            if order.fault.part(BEFORE):
                return self.take(order).fault
        return None

    def for_request(self, request: Request) -> tuple[Fault | None, Any]:
        """The fault that a request is to suffer, and the id of its order."""
        if self.mistakes:
            raise self.mistakes.pop(0)
        for order in self.orders:
            if not order.fault.part(BEFORE) and order.matches(request):
                return self.take(order).fault, order.id
        name = request.stream_name or ""
        if request.action == "CreateScreenshotTask" and name.startswith("fault:"):
            return self.by_stream_name(request, name), None
        return None, None

    def by_stream_name(self, request: Request, name: str) -> Fault | None:
        try:
            fault = Fault.read(name.removeprefix("fault:"))
            if fault.part(BEFORE):
                raise BadOrder(f"a stream name orders too late for {name!r}")
        except BadOrder as mistake:
            raise shown(mistake)
        if not fault.strikes(request):
            return None
        if "times" in fault.parts:
            if self.suffered.get(name, 0) >= fault.parts["times"]:
                return None
            self.suffered[name] = self.suffered.get(name, 0) + 1
            if len(self.suffered) > 100_000:
                del self.suffered[next(iter(self.suffered))]
        return fault
