"""Tasks and templates, and the ledger of what was done to them."""

import bisect
import itertools
import json
import operator
import secrets
import string
from dataclasses import dataclass
from typing import Any, Iterable, Iterator


class Journal:
    """A file of JSON lines, each in the kernel's hands when write() returns."""

    def __init__(self, path: str):
        self.file = open(path, "ab", buffering=0)

    def write(self, record: dict[str, Any]) -> None:
        self.file.write(json.dumps(record).encode() + b"\n")


@dataclass
class Task:
    event: dict[str, Any]       # that created it
    place: tuple[int, int]      # start, ordinal of the creation: the order of Describe
    stopped: int = 0

    def has_been_ended(self) -> bool:
        return self.stopped != 0 and self.stopped >= self.place[0]

    def listed(self) -> dict[str, Any]:
        return {"TaskId": self.event["task_id"], "DomainName": self.event["domain_name"],
                "AppName": self.event["app_name"], "StreamName": self.event["stream_name"],
                "StartTime": self.place[0], "EndTime": self.event["end_time"],
                "TemplateId": self.event["template_id"], "Stopped": self.stopped}


place_of = operator.attrgetter("place")


# What a template is that was there before
TEMPLATE = {"TemplateName": "testName", "SnapshotInterval": 10, "Width": 0, "Height": 0, "PornFlag": 0, "CosAppId": 1250000000,
            "CosBucket": "pictures", "CosRegion": "ap-guangzhou", "CosPrefix": None, "CosFileName": None, "Description": ""}


class Tasks:
    """The tasks and templates that exist, and the ledger of the events that made them so."""

    def __init__(self, path: str, templates: Iterable[int] = ()):
        self.templates: dict[int, dict[str, Any]] = {number: {"template": TEMPLATE} for number in templates}
        self.last_template = max(self.templates, default=20000)
        self.by_id: dict[str, Task] = {}
        self.in_order: list[Task] = []
        self.created = itertools.count(1)
        self.journal = Journal(path)
        with open(path, encoding="utf-8") as ledger:
            for line in ledger:
                self.apply(json.loads(line))

    def record(self, event: dict[str, Any]) -> None:
        self.journal.write(event)
        self.apply(event)

    def apply(self, event: dict[str, Any]) -> None:
        if event["event"] == "create_template":
            self.templates[event["template_id"]] = event
            self.last_template = max(self.last_template, event["template_id"])
        elif event["event"] == "delete_template":
            del self.templates[event["template_id"]]
        else:
            self.apply_to_task(event, event["task_id"])

    def apply_to_task(self, event: dict[str, Any], task_id: str) -> None:
        if event["event"] == "create":
            start = int(event["time"]) if event["start_time"] is None else event["start_time"]
            task = self.by_id[task_id] = Task(event, (start, next(self.created)))
            bisect.insort(self.in_order, task, key=place_of)
        elif event["event"] == "stop":
            self.by_id[task_id].stopped = int(event["time"])
        else:
            task = self.by_id.pop(task_id)
            del self.in_order[bisect.bisect_left(self.in_order, task.place, key=place_of)]

    def inside(self, start: int, end: int, after: tuple[int, int]) -> Iterator[Task]:
        """Tasks wholly within a window, in order, from after a place."""
        first = bisect.bisect_right(self.in_order, max((start, 0), after), key=place_of)
        for task in itertools.islice(self.in_order, first, None):
            if task.place[0] > end:
                return
            if task.event["end_time"] <= end:
                yield task

    def new_template_id(self) -> int:
        """Never one that was given out before, or was there."""
        return self.last_template + 1

    def new_id(self, length: int = 57) -> str:
        while (task_id := random_text(length)) in self.by_id:
            pass
        return task_id


def random_text(length: int) -> str:
    return "".join(secrets.SystemRandom().choices(string.ascii_letters + string.digits, k=length))
