"""Requests and replies, apart from how they travel."""

from __future__ import annotations

import email.utils
import json
import re
import time
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

HOST = "127.0.0.1"
LOCAL_NAME = "localhost"
DEFAULT_ACCOUNT = "AKIDEXAMPLE:Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
SECOND = 1_000_000_000          # arrival times are whole nanoseconds
HOUR = 3600 * SECOND
MAX_HEAD = 64 * 1024
MAX_BODY = 10 * 1024 * 1024
READ_SIZE = 64 * 1024
UNPROCESSED_READS = 16          # of one connection, before reading it is put off
LINGER = 5                      # seconds for the peer to close after our FIN
ORDERS_INTERVAL = 0.05


class ApiError(Exception):
    """An error that the API itself answers."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


# Requests and replies ---------------------------------------------------------------------------------

@dataclass
class Request:
    """A request as it arrived: header names in lower case, values as they were sent."""
    connection: int             # number of the connection
    ordinal: int                # of the request on its connection, from 1
    http: str                   # "1.1" or "2"
    method: str
    target: str
    headers: dict[str, str]
    body: bytes | bytearray = field(default_factory=bytearray)
    arrival: int = 0            # of the last byte
    earliest: int = 0           # differs from arrival where the kernel merged what arrived
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def action(self) -> str | None:
        return self.headers.get("x-tc-action")

    @property
    def secret_id(self) -> str | None:
        found = re.search("Credential=([^/,]*)/", self.headers.get("authorization", ""))
        return found and found[1]

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return read_object(self.body)

    @cached_property
    def stream_name(self) -> str | None:
        """The stream name of any body that has one, for faults and the record."""
        try:
            name = self.parameters.get("StreamName")
        except ApiError:
            return None
        return name if isinstance(name, str) else None


def read_object(body: bytes) -> dict[str, Any]:
    """A strict JSON object: UTF-8 throughout, no key twice, no NaN."""
    def unique(pairs):
        if len(names := dict(pairs)) < len(pairs):
            raise ValueError("a key occurs twice")
        return names

    def no_constant(name):
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(body.decode(), object_pairs_hook=unique, parse_constant=no_constant)
        json.dumps(value, ensure_ascii=False).encode()      # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise ApiError("InvalidParameter", f"the body is not JSON: {error}")
    if not isinstance(value, dict):
        raise ApiError("InvalidParameter", "the body is not a JSON object")
    return value


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def __post_init__(self):
        self.headers = {"Server": "nginx", "Date": http_date(0)} | self.headers

    @classmethod
    def api(cls, response: dict[str, Any]) -> Reply:
        body = json.dumps({"Response": response}, ensure_ascii=False).encode()
        return cls(200, {"Content-Type": "application/json"}, body)

    @classmethod
    def page(cls, status: int, text: str, **headers: str) -> Reply:
        """What something in front of the API would say."""
        body = f"<html><body><h1>{status}</h1><p>{text}</p></body></html>\n".encode()
        return cls(status, {"Content-Type": "text/html"} | headers, body)


def http_date(offset: float) -> str:
    return email.utils.formatdate(time.time() + offset, usegmt=True)


def error_response(request_id: str, code: str, message: str) -> dict[str, Any]:
    return {"Error": {"Code": code, "Message": message}, "RequestId": request_id}
