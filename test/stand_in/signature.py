"""Signatures: TC3-HMAC-SHA256, by code that shares nothing with the extension."""

import hashlib
import hmac
import re
import time
from dataclasses import dataclass, field

from stand_in.messages import ApiError, Request, SECOND

AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 Credential=(?P<id>[^/,\s]+)/(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})/(?P<service>[a-z0-9]+)"
    r"/tc3_request, SignedHeaders=(?P<signed>[a-z0-9-]+(;[a-z0-9-]+)*), Signature=(?P<signature>[0-9a-f]{64})")


@dataclass
class Account:
    secret_id: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def canonical_request(method: str, query: str, headers: dict[str, str], signed: list[str], body: bytes) -> str:
    lines = "".join(f"{name}:{headers[name].strip().lower()}\n" for name in signed)
    return "\n".join([method, "/", query, lines, ";".join(signed), hashlib.sha256(body).hexdigest()])


def utc_date(timestamp: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(timestamp))


def signature(secret_key: str, service: str, timestamp: int, canonical: str) -> str:
    date = utc_date(timestamp)
    digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    to_sign = f"TC3-HMAC-SHA256\n{timestamp}\n{date}/{service}/tc3_request\n{digest}"
    key = f"TC3{secret_key}".encode()
    for part in (date, service, "tc3_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def verify_signature(request: Request, accounts: dict[str, Account], service: str) -> None:
    def invalid(message):
        return ApiError("AuthFailure.InvalidAuthorization", message)

    match = AUTHORIZATION.fullmatch(request.headers["authorization"])
    if not match:
        raise invalid("Authorization is malformed")
    timestamp = int(request.headers["x-tc-timestamp"])
    if match["date"] != utc_date(timestamp):
        raise invalid("the date of the credential is not the UTC date of X-TC-Timestamp")
    if match["service"] != service:
        raise invalid(f"the service of the credential is not {service}")
    signed = match["signed"].split(";")
    if signed != sorted(set(signed)):
        raise invalid("SignedHeaders is not in order")
    if not {"content-type", "host"} <= set(signed):
        raise invalid("SignedHeaders lacks content-type or host")
    if missing := [name for name in signed if name not in request.headers]:
        raise invalid(f"signed header {missing[0]} is not in the request")
    account = accounts.get(match["id"])
    if account is None:
        raise ApiError("AuthFailure.SecretIdNotFound", "the SecretId does not exist")
    if abs(request.arrival - timestamp * SECOND) > 300 * SECOND:
        raise ApiError("AuthFailure.SignatureExpire", "X-TC-Timestamp is over five minutes off")
    canonical = canonical_request(request.method, "", request.headers, signed, request.body)
    expected = signature(account.secret_key, match["service"], timestamp, canonical)
    if not hmac.compare_digest(expected, match["signature"]):
        raise ApiError("AuthFailure.SignatureFailure", "the signature does not match the request")
    if request.headers.get("x-tc-token") != account.token:
        raise ApiError("AuthFailure.TokenFailure", "X-TC-Token is not the one of this SecretId")
