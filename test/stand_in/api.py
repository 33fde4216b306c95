"""The rules of the API, in its order: signature, limit, parameters."""

import base64
import itertools
import re
from dataclasses import dataclass
from typing import Any, Callable

from stand_in.ledger import Task, Tasks
from stand_in.limit import Limit
from stand_in.messages import ApiError, HOUR, MAX_BODY, Request, SECOND
from stand_in.network import Network
from stand_in.signature import Account, verify_signature
from stand_in.sts import Sts, VERSION as STS_VERSION


@dataclass
class Verdict:
    """What a request deserves.  Nothing has been done yet."""
    outcome: str                            # for the record: an error code, or what was returned
    response: dict[str, Any]
    event: dict[str, Any] | None = None     # for the ledger, once it takes effect


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_label(most: int) -> Callable[[Any], bool]:
    """Letters, digits, underscores and hyphens, of at most so many bytes."""
    return lambda value: is_text(value) and re.fullmatch(r"[\w-]+", value) is not None and len(value.encode()) <= most


def is_between(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: is_integer(value) and least <= value <= most


REQUIRED, OPTIONAL = True, False
PARAMETERS = {
    "CreateScreenshotTask": {
        "StreamName": (is_name, REQUIRED), "DomainName": (is_name, REQUIRED), "AppName": (is_name, REQUIRED),
        "EndTime": (is_integer, REQUIRED), "TemplateId": (is_integer, REQUIRED),
        "StartTime": (is_integer, OPTIONAL), "StreamType": (is_integer, OPTIONAL),
        "Extension": (is_text, OPTIONAL)},
    "StopScreenshotTask": {"TaskId": (is_name, REQUIRED)},
    "DeleteScreenshotTask": {"TaskId": (is_name, REQUIRED)},
    "DescribeScreenshotTask": {
        "StartTime": (is_integer, REQUIRED), "EndTime": (is_integer, REQUIRED),
        "StreamName": (is_name, OPTIONAL), "DomainName": (is_name, OPTIONAL), "AppName": (is_name, OPTIONAL),
        "ScrollToken": (is_text, OPTIONAL)},
    "CreateLiveSnapshotTemplate": {
        "TemplateName": (is_label(255), REQUIRED), "CosAppId": (is_integer, REQUIRED), "CosBucket": (is_name, REQUIRED),
        "CosRegion": (is_name, REQUIRED), "Description": (is_label(1024), OPTIONAL),
        "SnapshotInterval": (is_between(2, 300), OPTIONAL), "Width": (is_between(0, 3000), OPTIONAL),
        "Height": (is_between(0, 2000), OPTIONAL), "PornFlag": (is_between(0, 1), OPTIONAL),
        "CosPrefix": (is_name, OPTIONAL), "CosFileName": (is_name, OPTIONAL)},
    "DeleteLiveSnapshotTemplate": {"TemplateId": (is_integer, REQUIRED)},
    "DescribeLiveSnapshotTemplates": {},
    "AssumeRole": {
        "RoleArn": (is_name, REQUIRED), "RoleSessionName": (is_name, REQUIRED), "DurationSeconds": (is_between(1, 43200), REQUIRED)},
    "AssumeRoleWithWebIdentity": {
        "ProviderId": (is_name, REQUIRED), "WebIdentityToken": (is_name, REQUIRED), "RoleArn": (is_name, REQUIRED),
        "RoleSessionName": (is_name, REQUIRED), "DurationSeconds": (is_between(1, 43200), REQUIRED)}}
STS_ACTIONS = {"AssumeRole", "AssumeRoleWithWebIdentity"}

# The two editions of the vendor; and the rules of both together, which is what a client for either has to keep.
MAINLAND, INTERNATIONAL, BOTH = "mainland", "international", "both"
INTERNATIONAL_LACKS = {"StopScreenshotTask", "DeleteScreenshotTask", "DescribeScreenshotTask"}

# Requests a second, of those that have a limit of their own
LIMITS = {"CreateLiveSnapshotTemplate": 200, "DeleteLiveSnapshotTemplate": 200, "DescribeLiveSnapshotTemplates": 500,
          "AssumeRole": 600, "AssumeRoleWithWebIdentity": 600}
MAX_TEMPLATES = 50

# Common headers: what they must match, whether they must be there, and the code if they do not match.
HEADERS = {
    "host": (r"[^\s/]+", REQUIRED, "InvalidParameterValue"),
    "content-type": (r"(?i:application/json(; ?charset=utf-8)?)", REQUIRED, "InvalidRequest"),
    "authorization": (r".+", REQUIRED, "AuthFailure.InvalidAuthorization"),
    "x-tc-action": (r".+", REQUIRED, "InvalidAction"),
    "x-tc-timestamp": (r"[0-9]{1,10}", REQUIRED, "InvalidParameterValue"),
    "x-tc-version": (r"2018-08-01|2018-08-13", REQUIRED, "NoSuchVersion"),
    "x-tc-region": (r"ap-guangzhou", REQUIRED, "UnsupportedRegion"),
    "x-tc-language": (r"en-US|zh-CN", OPTIONAL, "InvalidParameterValue"),
    "x-tc-requestclient": (r"[0-9a-zA-Z_ ,;.-]{1,128}", OPTIONAL, "InvalidParameterValue"),
    "x-tc-traceid": (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", OPTIONAL, "InvalidParameterValue")}


class Api:
    """The rules of the actions.  judge() raises ApiError, or returns what would be done."""

    def __init__(self, accounts: list[Account], limit: int, page_size: int, separate: bool, tasks: Tasks,
                 network: Network, edition: str = BOTH, directory: str = ""):
        self.edition = edition
        self.accounts = {account.secret_id: account for account in accounts}
        self.sts = Sts(directory, self.accounts)
        self.page_size, self.separate, self.tasks, self.network = page_size, separate, tasks, network
        self.limit = limit
        self.limits: dict[tuple[str, str], Limit] = {}
        self.actions = {
            "CreateScreenshotTask": self.create, "StopScreenshotTask": self.stop,
            "DeleteScreenshotTask": self.delete, "DescribeScreenshotTask": self.describe,
            "CreateLiveSnapshotTemplate": self.create_template, "DeleteLiveSnapshotTemplate": self.delete_template,
            "DescribeLiveSnapshotTemplates": self.describe_templates,
            "AssumeRole": self.assume_role, "AssumeRoleWithWebIdentity": self.assume_role_with_web_identity}

    def judge(self, request: Request) -> Verdict:
        if request.method != "POST":
            raise ApiError("UnsupportedProtocol", f"method {request.method} is not POST")
        if request.target != "/":
            raise ApiError("InvalidRequest", f"target {request.target} is not /")
        if len(request.body) > MAX_BODY:
            raise ApiError("RequestSizeLimitExceeded", "the body has over 10 MB")
        self.check_headers(request, "host", "content-type", "authorization", "x-tc-action", "x-tc-timestamp")
        if request.action == "AssumeRoleWithWebIdentity":
            if request.headers["authorization"] != "SKIP":
                raise ApiError("AuthFailure.InvalidAuthorization", "AssumeRoleWithWebIdentity is not signed")
        else:
            verify_signature(request, self.accounts, "sts" if request.action in STS_ACTIONS else "live")
        if request.action not in self.actions or self.edition == INTERNATIONAL and request.action in INTERNATIONAL_LACKS:
            raise ApiError("InvalidAction", f"X-TC-Action {request.action} does not exist")
        limit = self.limits.setdefault((request.secret_id, request.action), Limit(LIMITS.get(request.action, self.limit)))
        limit.add_others(self.network.others, request.arrival)
        if limit.exceeded_by(request.arrival, request.earliest):
            raise ApiError("RequestLimitExceeded", f"too many requests of {request.action} in a second")
        self.check_headers(request, "x-tc-version", "x-tc-language", "x-tc-requestclient", "x-tc-traceid")
        if (request.headers["x-tc-version"] == STS_VERSION) != (request.action in STS_ACTIONS):
            raise ApiError("NoSuchVersion", "the version is that of another service")
        if request.action in STS_ACTIONS:
            if not re.fullmatch("[a-z0-9-]+", request.headers.get("x-tc-region", "")):
                raise ApiError("MissingParameter", "header x-tc-region is missing, or has an invalid value")
        elif request.action not in LIMITS and self.edition != INTERNATIONAL:      # those of templates know no region
            self.check_headers(request, "x-tc-region")
        self.check_parameters(request)
        return self.actions[request.action](request, request.parameters)

    @staticmethod
    def check_headers(request: Request, *names: str) -> None:
        for name in names:
            pattern, required, code = HEADERS[name]
            value = request.headers.get(name)
            if value is None and required:
                raise ApiError("MissingParameter", f"header {name} is missing")
            if value is not None and not re.fullmatch(pattern, value):
                raise ApiError(code, f"header {name} has an invalid value")

    @staticmethod
    def check_parameters(request: Request) -> None:
        rules = PARAMETERS[request.action]
        for name, value in request.parameters.items():
            if name not in rules:
                raise ApiError("UnknownParameter", f"parameter {name} is unknown")
            if not rules[name][0](value):
                raise ApiError("InvalidParameter", f"parameter {name} is of the wrong type, or empty")
        for name, (_, required) in rules.items():
            if required and name not in request.parameters:
                raise ApiError("MissingParameter", f"parameter {name} is missing")

    def create(self, request: Request, given: dict[str, Any]) -> Verdict:
        now, end = request.arrival, given["EndTime"] * SECOND
        start = given["StartTime"] * SECOND if "StartTime" in given else now
        require(end > start, "EndTime is not later than StartTime")
        require(end > now, "EndTime has passed")
        require(end - start <= 24 * HOUR, "EndTime is over 24 hours after StartTime")
        if self.edition != MAINLAND:
            require(start <= now + 6 * 24 * HOUR, "StartTime is over six days away")
        if self.edition != INTERNATIONAL:
            require(end < now + 7 * 24 * HOUR, "EndTime is not less than seven days away")
        require(given.get("StreamType", 0) in (0, 1), "StreamType is neither 0 nor 1")
        require(given["TemplateId"] >= 0, "TemplateId is negative")
        task_id = self.tasks.new_id()
        event = {"event": "create", "task_id": task_id, "request_id": request.id,
                 "stream_name": given["StreamName"], "domain_name": given["DomainName"],
                 "app_name": given["AppName"], "start_time": given.get("StartTime"), "end_time": given["EndTime"],
                 "template_id": given["TemplateId"], "stream_type": given.get("StreamType", 0),
                 "extension": given.get("Extension"), "time": seconds_of(request.arrival)}
        if self.separate:
            event["secret_id"] = request.secret_id
        return Verdict("TaskId", {"TaskId": task_id, "RequestId": request.id}, event)

    # What ends a task: a stop once it has begun, a delete before.  A stop that came too early has to be repeated; what
    # was deleted too late can no longer be stopped.
    def stop(self, request: Request, given: dict[str, Any]) -> Verdict:
        return self.ended("stop", request, None if self.task(given).has_been_ended() else given)

    def delete(self, request: Request, given: dict[str, Any]) -> Verdict:
        self.task(given)
        return self.ended("delete", request, given)

    def task(self, given: dict[str, Any]) -> Task:
        if given["TaskId"] not in self.tasks.by_id:
            raise ApiError("InvalidParameter", "TaskId does not exist")
        return self.tasks.by_id[given["TaskId"]]

    @staticmethod
    def ended(event: str, request: Request, given: dict[str, Any] | None) -> Verdict:
        return Verdict("RequestId", {"RequestId": request.id}, given and {
            "event": event, "task_id": given["TaskId"], "request_id": request.id,
            "time": seconds_of(request.arrival)})

    def describe(self, request: Request, given: dict[str, Any]) -> Verdict:
        start, end = given["StartTime"], given["EndTime"]
        require(start * SECOND >= request.arrival - 90 * 24 * HOUR, "StartTime is over 90 days ago")
        require(end >= start, "EndTime is earlier than StartTime")
        require((end - start) * SECOND <= 7 * 24 * HOUR, "EndTime is over seven days after StartTime")
        filters = [(name, given[name]) for name in ("StreamName", "DomainName", "AppName") if name in given]
        found = (task for task in self.tasks.inside(start, end, read_scroll_token(given.get("ScrollToken", "")))
                 if all(task.listed()[name] == value for name, value in filters)
                 and (not self.separate or task.event["secret_id"] == request.secret_id))
        page = list(itertools.islice(found, self.page_size))
        more = next(found, None) is not None
        return Verdict("TaskList", {
            "TaskList": [task.listed() for task in page],
            "ScrollToken": scroll_token(page[-1].place) if more else "", "RequestId": request.id})


    def create_template(self, request: Request, given: dict[str, Any]) -> Verdict:
        require(given["CosAppId"] > 0, "CosAppId is not positive")
        require(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", given["CosBucket"]) is not None, "CosBucket is no name of a bucket")
        require(not given["CosBucket"].endswith(f"-{given['CosAppId']}"), "CosBucket has the APPID")
        if len(self.templates(request)) >= MAX_TEMPLATES:
            raise ApiError("InternalError.ConfOutLimit", f"there are {MAX_TEMPLATES} templates")
        template_id = self.tasks.new_template_id()
        event = {"event": "create_template", "template_id": template_id, "request_id": request.id,
                 "secret_id": request.secret_id, "template": {"SnapshotInterval": 10, "Width": 0, "Height": 0, "PornFlag": 0} | given,
                 "time": seconds_of(request.arrival)}
        return Verdict("TemplateId", {"TemplateId": template_id, "RequestId": request.id}, event)

    def delete_template(self, request: Request, given: dict[str, Any]) -> Verdict:
        if given["TemplateId"] not in self.templates(request):
            raise ApiError("FailedOperation.NotFound", "TemplateId does not exist")
        return Verdict("RequestId", {"RequestId": request.id}, {
            "event": "delete_template", "template_id": given["TemplateId"], "request_id": request.id,
            "time": seconds_of(request.arrival)})

    def describe_templates(self, request: Request, _: dict[str, Any]) -> Verdict:
        return Verdict("Templates", {
            "Templates": [{"TemplateId": number} | event["template"] for number, event in self.templates(request).items()],
            "RequestId": request.id})

    def assume_role(self, request: Request, given: dict[str, Any]) -> Verdict:
        return Verdict("Credentials", self.sts.assume(request, given))

    def assume_role_with_web_identity(self, request: Request, given: dict[str, Any]) -> Verdict:
        return Verdict("Credentials", self.sts.assume_with_web_identity(request, given))

    def templates(self, request: Request) -> dict[int, dict[str, Any]]:
        """Those of the account, in order."""
        return {number: event for number, event in sorted(self.tasks.templates.items())
                if not self.separate or event.get("secret_id") in (None, request.secret_id)}


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ApiError("InvalidParameterValue", message)


def seconds_of(nanoseconds: int) -> float:
    return round(nanoseconds / SECOND, 6)


def scroll_token(place: tuple[int, int]) -> str:
    return base64.urlsafe_b64encode("{}.{}".format(*place).encode()).decode()


def read_scroll_token(token: str) -> tuple[int, int]:
    if token == "":
        return (-1 << 63, 0)
    try:
        start, ordinal = base64.urlsafe_b64decode(token).decode().split(".")
        return int(start), int(ordinal)
    except ValueError:
        raise ApiError("InvalidParameterValue", "ScrollToken was not given out here")
