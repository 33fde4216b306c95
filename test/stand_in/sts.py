"""The Security Token Service, which hands out temporary credentials of roles."""

import contextlib
import itertools
import json
import os
import re
import time
from typing import Any

from stand_in.messages import ApiError, Request, SECOND
from stand_in.signature import Account

ROLE = "qcs::cam::uin/100000000001:roleName/screenshots"
PROVIDER = "tke-provider"
VERSION = "2018-08-13"


class Sts:
    """It is asked at the same address as the API, and suffers the same faults.

    There is one role, ROLE.  Every account may assume it, but those that DIR/sts says may not; and whoever shows the
    token in DIR/web_identity_token.  DIR/sts is read at each request.  It is a JSON object with any of `untrusted`, a list
    of SecretIds; `lives`, how many seconds the first, second, ... set lives, the last one for all others too; and
    `answer`, what is put into the answer in place of what belongs there, at the path that each key is
    (`Credentials.Token`), or taken from it, if it is null.
    """

    def __init__(self, directory: str, accounts: dict[str, Account]):
        self.directory, self.accounts = directory, accounts
        self.sets = itertools.count(1)

    def read(self, name: str) -> str:
        with contextlib.suppress(FileNotFoundError), open(os.path.join(self.directory, name), encoding="utf-8") as file:
            return file.read()
        return ""

    def orders(self) -> dict[str, Any]:
        return json.loads(self.read("sts") or "{}")

    def assume(self, request: Request, given: dict[str, Any]) -> dict[str, Any]:
        if request.secret_id in self.orders().get("untrusted", []):
            raise ApiError("UnauthorizedOperation", "the role does not trust this account")
        return self.next_set(request, given)

    def assume_with_web_identity(self, request: Request, given: dict[str, Any]) -> dict[str, Any]:
        if given["ProviderId"] != PROVIDER:
            raise ApiError("ResourceNotFound.ProviderNotFound", "ProviderId does not exist")
        if given["WebIdentityToken"] != self.read("web_identity_token").strip():
            raise ApiError("InvalidParameter.WebIdentityTokenError", "WebIdentityToken is not valid")
        return self.next_set(request, given)

    def next_set(self, request: Request, given: dict[str, Any]) -> dict[str, Any]:
        """The response; the account exists from now on, known to whom it reaches."""
        if given["RoleArn"] != ROLE:
            raise ApiError("ResourceNotFound.RoleNotFound", "RoleArn does not exist")
        if not re.fullmatch(r"[\w+=,.@-]{2,128}", given["RoleSessionName"], re.ASCII):
            raise ApiError("InvalidParameterValue", "RoleSessionName has other characters")
        orders = self.orders()
        number = next(self.sets)
        lives = orders.get("lives", [given["DurationSeconds"]])
        ends = request.arrival // SECOND + lives[min(number, len(lives)) - 1]
        account = Account(f"AKIDSTS{number}", f"stsKeyNobodyMaySee{number}", f"stsTokenNobodyMaySee{number}=")
        self.accounts[account.secret_id] = account
        response = {
            "Credentials": {"Token": account.token, "TmpSecretId": account.secret_id, "TmpSecretKey": account.secret_key},
            "ExpiredTime": ends, "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends)), "RequestId": request.id}
        for path, value in orders.get("answer", {}).items():
            *parents, name = path.split(".")
            within = response
            for parent in parents:
                within = within[parent]
            if value is None:
                del within[name]
            else:
                within[name] = value
        return response
