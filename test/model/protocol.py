"""The protocol between a row of screenshot_task_request, the worker, and the API, as a set of states and steps.

A world is all that there is at a moment: the rows as sessions see them and as they are on disk, the tasks that the
API has, what is on the wire, what the worker has in its memory, and what time it is for the task.  steps() gives
every world that may follow, each with what was done.  Nothing here explores; see the command `protocol`.

What is left out, since nothing of the protocol depends on it: values of parameters (two requests are equal, which
is the worst case for a lookup), limits, pauses and back-off (a step that may be taken may be taken later), and
how long anything takes, except that a lookup is not made before what was sent can no longer arrive.
"""

from typing import Iterator, NamedTuple, Optional

# How a status follows another: (from, to, by) -> whether only of requests that were made elsewhere, as in
# src/table/status.c.
TRANSITIONS = {
    ("pending", "sending", "worker"): False,
    ("pending", "expired", "worker"): False,
    ("sending", "created", "worker"): False,
    ("sending", "failed", "worker"): False,
    ("sending", "in_doubt", "worker"): False,
    ("sending", "pending", "worker"): False,
    ("sending", "withdrawing", "worker"): False,
    ("sending", "cancelled", "worker"): False,
    ("in_doubt", "created", "worker"): False,
    ("in_doubt", "pending", "worker"): False,
    ("in_doubt", "in_doubt", "worker"): False,
    ("in_doubt", "withdrawing", "worker"): False,
    ("in_doubt", "cancelled", "worker"): False,
    ("withdrawing", "withdrawing", "worker"): False,
    ("withdrawing", "withdrawn", "worker"): False,
    ("withdrawing", "created", "worker"): False,
    ("pending", "cancelled", "cancel"): False,
    ("in_doubt", "cancelled", "cancel"): False,
    ("sending", "cancelled", "cancel"): True,
    ("pending", "pending", "retry"): False,
    ("failed", "pending", "retry"): False,
    ("expired", "pending", "retry"): False,
    ("cancelled", "pending", "retry"): False,
    ("cancelled", "in_doubt", "retry"): False,
    ("in_doubt", "in_doubt", "retry"): False,
    ("withdrawing", "withdrawing", "retry"): False,
    ("in_doubt", "created", "resolve"): False,
    ("in_doubt", "pending", "resolve"): False,
    ("in_doubt", "withdrawing", "resolve"): False,
    ("in_doubt", "cancelled", "resolve"): False,
    ("withdrawing", "withdrawn", "resolve"): False,
    ("sending", "in_doubt", "adopt"): True,
    ("pending", "cancelled", "withdraw"): False,
    ("sending", "sending", "withdraw"): False,
    ("in_doubt", "in_doubt", "withdraw"): False,
    ("cancelled", "in_doubt", "withdraw"): False,
    ("created", "withdrawing", "withdraw"): False,
    ("created", "created", "withdraw"): False,
    ("failed", "failed", "withdraw"): False,
    ("expired", "expired", "withdraw"): False,
    ("cancelled", "cancelled", "withdraw"): False,
    # in the transaction that withdrew the request, so that nobody else sees either: each undoes one of those above
    ("cancelled", "pending", "undo"): False,
    ("sending", "sending", "undo"): False,
    ("in_doubt", "in_doubt", "undo"): False,
    ("in_doubt", "cancelled", "undo"): False,
    ("withdrawing", "created", "undo"): False,
    ("created", "created", "undo"): False,
    ("failed", "failed", "undo"): False,
    ("expired", "expired", "undo"): False,
    ("cancelled", "cancelled", "undo"): False,
}

FINISHED = {"created", "failed", "expired", "cancelled", "withdrawn"}

# Mistakes that the model must find: what each leaves out of the protocol
ERRORS = {
    "claim-uncommitted": "a request is sent before its claim is on disk",
    "looked-up-too-soon": "a lookup does not wait until what was sent can no longer arrive",
    "missed-once": "a request that one lookup does not find is taken to have no task",
    "task-adopted-twice": "a lookup takes a task that a row has already",
    "task-of-withdrawn-adopted": "a lookup takes a task that a row which is withdrawn has",
    "result-ignores-withdrawal": "the answer to a request is written without a look at whether it is withdrawn",
    "doubt-ignores-withdrawal": "a request that was withdrawn in doubt is sent again",
    "withdrawal-unflushed": "a task is stopped before its withdrawal is known to be on disk",
    "deleted-at-start": "a task that may not have been stopped, since it had not begun, is deleted",
    "stopped-once": "a task that may not have been stopped, since it had not begun, is not stopped again",
    "cancelled-while-withdrawn": "a withdrawn request in doubt may be cancelled",
}


class Broken(Exception):
    """What must never happen."""


class Row(NamedTuple):
    status: str = "pending"
    withdrawn: bool = False
    attempt: int = 0
    task: Optional[int] = None          # its TaskId
    misses: int = 0
    person: bool = False                # left to a person
    doubt: bool = False                 # cancelled when it was in doubt
    held: bool = False                  # came in a dump


class Message(NamedTuple):
    action: str                         # create, stop, delete
    row: int
    number: int                         # of the attempt, or of the task
    answer: str = ""                    # none yet: it is on its way to the API
    task: Optional[int] = None
    awaited: bool = True                # by a worker, which has not given it up


class Job(NamedTuple):
    """What the worker has in its memory about a row."""
    what: str                           # create, lookup, withdraw
    step: str
    number: int                         # the attempt, or the task
    answer: str = ""
    tasks: tuple = ()                   # listed, or created
    began: str = ""                     # the time at the first request to withdraw it


class Task(NamedTuple):
    row: int
    state: str                          # future, running, loose (deleted, and running), stopped, gone


class World(NamedTuple):
    rows: tuple = (Row(),)
    disk: tuple = (Row(),)              # the rows, if the server crashed now
    tasks: tuple = ()
    wire: tuple = ()                    # of Message, in order
    worker: Optional[tuple] = None      # of Job or None, for each row; None: there is none
    time: str = "after"                 # before, near (the start, which may have come), after it; ended
    begun: bool = True                  # has the start come, by the API's clock?
    faults: int = 0                     # that may still happen
    wishes: int = 0                     # that people may still have
    restored: bool = False


LIVE = {"future", "running", "loose"}
NEXT_TIME = {"before": "near", "near": "after", "after": "ended"}


class Protocol:
    """What may happen, in a scenario: which actions the API has, whether there may be a replacement, and so on."""

    def __init__(self, error: str = "", describes: bool = True, stops: bool = True, replaces: bool = False,
                 restores: bool = False, clock: bool = False, ends: bool = True):
        self.error, self.describes, self.stops = error, describes, stops
        self.replaces, self.restores, self.clock, self.ends = replaces, restores, clock, ends
        self.used: set = set()

    # Changing rows ---------------------------------------------------------------------------------------

    def change(self, world: World, i: int, to: str, by: str, durable: bool = True, **values) -> World:
        row = world.rows[i]
        only_held = TRANSITIONS.get((row.status, to, by))
        if only_held is None or (only_held and not row.held):
            raise Broken(f"{row.status} becomes {to} by {by}")
        self.used.add((row.status, to, by))
        rows = list(world.rows)
        rows[i] = row._replace(status=to, **values)
        rows = tuple(rows)
        # A commit that is flushed takes all before it along.
        return world._replace(rows=rows, disk=rows if durable else world.disk)

    @staticmethod
    def with_job(world: World, i: int, job: Optional[Job]) -> World:
        jobs = list(world.worker)
        jobs[i] = job
        return world._replace(worker=tuple(jobs))

    @staticmethod
    def send(world: World, message: Message) -> World:
        return world._replace(wire=tuple(sorted(world.wire + (message,), key=repr)))

    @staticmethod
    def without(world: World, message: Message) -> World:
        wire = list(world.wire)
        wire.remove(message)
        return world._replace(wire=tuple(wire))

    # Steps -----------------------------------------------------------------------------------------------

    def steps(self, world: World) -> Iterator[tuple]:
        """(kind, what, world): kind is "progress", which comes in the end, "person", "time", "fault", "wish"."""
        yield from self.worker_steps(world)
        for message in world.wire:
            if not message.answer:
                yield from self.api_steps(world, message)
        if self.clock or self.ends:
            yield from self.time_steps(world)
        if world.faults > 0 and (world.worker is not None or world.rows != world.disk):
            wire = tuple(sorted((m._replace(awaited=False) for m in world.wire if not m.answer), key=repr))
            down = world._replace(worker=None, wire=wire, faults=world.faults - 1)
            yield "fault", "the worker is killed", down
            if world.rows != world.disk:
                yield "fault", "the server crashes", down._replace(rows=world.disk)
        yield from self.people(world)

    def worker_steps(self, world: World) -> Iterator[tuple]:
        if world.worker is None:
            up = world._replace(worker=(None,) * len(world.rows))
            for i, row in enumerate(world.rows):
                if row.status == "sending" and not row.held:
                    up = self.change(up, i, "in_doubt", "worker")
            yield "progress", "a worker starts", up
            return
        for i, job in enumerate(world.worker):
            if world.rows[i].held:
                continue
            if job is None:
                yield from self.begin(world, i)
            elif job.what == "create":
                yield from self.creation(world, i, job)
            elif job.what == "lookup":
                yield from self.lookup(world, i, job)
            else:
                yield from self.withdrawal(world, i, job)

    def begin(self, world: World, i: int) -> Iterator[tuple]:
        row = world.rows[i]
        if row.status == "pending" and world.time == "ended":
            yield "progress", f"{i} expires", self.change(world, i, "expired", "worker")
        elif row.status == "pending":
            if row.withdrawn:
                raise Broken(f"{i} is sent, and was withdrawn")
            flushed = self.error != "claim-uncommitted"
            claimed = self.change(world, i, "sending", "worker", durable=flushed, attempt=row.attempt + 1, misses=0)
            yield "progress", f"{i} is claimed", self.with_job(claimed, i, Job("create", "claimed", row.attempt + 1))
        elif row.status == "in_doubt" and not row.person:
            if not self.describes:
                yield "progress", f"{i} is left to a person", self.change(world, i, "in_doubt", "worker", person=True)
            elif self.error == "looked-up-too-soon" or not any(
                    m.action == "create" and m.row == i and not m.answer for m in world.wire):
                listed = tuple(n for n, task in enumerate(world.tasks) if task.state not in ("gone", "loose"))
                yield "progress", f"{i} is looked up", self.with_job(
                    world, i, Job("lookup", "listed", row.attempt, tasks=listed))
        elif row.status == "withdrawing" and world.time == "ended":
            yield "progress", f"{i} has ended", self.change(world, i, "created", "worker")
        elif row.status == "withdrawing":
            job = Job("withdraw", "claimed", row.task, began=world.time)
            flushed = self.error != "withdrawal-unflushed"
            yield "progress", f"the withdrawal of {i} is claimed", self.with_job(
                self.change(world, i, "withdrawing", "worker", durable=flushed), i, job)

    def creation(self, world: World, i: int, job: Job) -> Iterator[tuple]:
        row = world.rows[i]
        if job.step == "claimed":
            yield "progress", f"{i} is sent", self.send(
                self.with_job(world, i, job._replace(step="sent")), Message("create", i, job.number))
        elif job.step == "sent":
            message = self.sent(world, i, "create", job)
            if message is not None and message.answer:
                yield "progress", f"{i} is answered: {message.answer}", self.without(self.with_job(
                    world, i, job._replace(step="result", answer=message.answer, tasks=(message.task,))), message)
            else:
                yield from self.time_out(world, i, message, job._replace(step="result", answer="in_doubt"))
        else:
            done = self.with_job(world, i, None)
            if row.status != "sending" or row.attempt != job.number:
                yield "progress", f"the result of {i} is dropped", done
                return
            answer = job.answer
            if row.withdrawn and self.error != "result-ignores-withdrawal":
                answer = {"created": "created" if world.time == "ended" else "withdrawing", "in_doubt": "in_doubt",
                          "failed": "cancelled", "pending": "cancelled"}[answer]
            task = job.tasks[0] if job.answer == "created" else None
            yield "progress", f"the result of {i} is saved", self.change(done, i, answer, "worker", task=task)

    @staticmethod
    def sent(world: World, i: int, action: str, job: Job) -> Optional[Message]:
        for message in world.wire:
            if (message.action, message.row, message.number) == (action, i, job.number) and message.awaited:
                return message
        return None

    # What is still on its way when the worker no longer waits for it may arrive after all.
    def time_out(self, world: World, i: int, message: Optional[Message], job: Job) -> Iterator[tuple]:
        if message is None:
            yield "progress", f"{i} is not answered", self.with_job(world, i, job)
        elif world.faults > 0:
            yield "fault", f"{i} is not answered in time", self.with_job(self.send(
                self.without(world, message), message._replace(awaited=False)), i, job)._replace(faults=world.faults - 1)

    def lookup(self, world: World, i: int, job: Job) -> Iterator[tuple]:
        row = world.rows[i]
        done = self.with_job(world, i, None)
        if row.status != "in_doubt" or row.attempt != job.number or row.person or any(
                other.status == "sending" and not other.held for other in world.rows):
            yield "progress", f"the lookup of {i} is dropped", done
            return
        taken = {other.task for other in world.rows if other.task is not None
                 and self.error != "task-adopted-twice"
                 and not (self.error == "task-of-withdrawn-adopted" and other.status in ("withdrawing", "withdrawn"))}
        found = [task for task in job.tasks if task not in taken]
        withdrawn = row.withdrawn and self.error != "doubt-ignores-withdrawal"
        if found:
            to = "withdrawing" if withdrawn and world.time != "ended" else "created"
            yield "progress", f"{i} is found", self.change(done, i, to, "worker", task=found[0])
        elif row.misses == 0 and self.error != "missed-once":
            yield "progress", f"{i} is missed", self.change(done, i, "in_doubt", "worker", misses=1)
        else:
            yield "progress", f"{i} has no task", self.change(done, i, "cancelled" if withdrawn else "pending", "worker")

    # A task that cannot have begun when a request arrives is deleted.  One that must have begun is stopped, and then
    # deleted: what is deleted while it runs goes on.  In between it is stopped if it runs, and again when it must.
    def withdrawal(self, world: World, i: int, job: Job) -> Iterator[tuple]:
        row = world.rows[i]
        if job.step == "claimed":
            action = "delete" if world.time == "before" else "stop"
            yield "progress", f"the task of {i} gets {action}", self.send(
                self.with_job(world, i, job._replace(step=action, began=world.time)), Message(action, i, job.number))
            return
        if job.step in ("stop", "delete"):
            message = self.sent(world, i, job.step, job)
            if message is not None and message.answer:
                step = "again" if message.answer in ("unknown", "refused") else f"{job.step} done"
                yield "progress", f"{job.step} of {i} is answered: {message.answer}", self.without(
                    self.with_job(world, i, job._replace(step=step)), message)
            else:
                yield from self.time_out(world, i, message, job._replace(step="again"))
            return
        if job.step == "stop done" and (job.began == "after" or self.error in ("deleted-at-start", "stopped-once")):
            yield "progress", f"the task of {i} gets delete", self.send(
                self.with_job(world, i, job._replace(step="delete")), Message("delete", i, job.number))
            return
        done = self.with_job(world, i, None)
        if row.status != "withdrawing" or row.task != job.number:
            yield "progress", f"the withdrawal of {i} is dropped", done
            return
        settled = job.step == "delete done" and (job.began != "near" or self.error == "stopped-once")
        yield "progress", f"the withdrawal of {i} is saved", self.change(
            done, i, "withdrawn" if settled else "withdrawing", "worker")

    # The API -----------------------------------------------------------------------------------------------

    def api_steps(self, world: World, message: Message) -> Iterator[tuple]:
        fewer = world._replace(faults=world.faults - 1)
        if world.faults > 0:
            yield "fault", "a message is lost", self.without(fewer, message)
        if message.action == "create":
            if world.time == "ended":
                yield "progress", "a create is refused", self.answer(world, message, "failed")
                return
            created = world._replace(tasks=world.tasks + (Task(message.row, "running" if world.begun else "future"),))
            task = len(world.tasks)
            yield "progress", "a task is created", self.answer(created, message, "created", task)
            if world.faults > 0:
                yield "fault", "a task is created, and the answer lost", self.without(
                    created._replace(faults=world.faults - 1), message)
                yield "fault", "a create is refused", self.answer(fewer, message, "failed")
                yield "fault", "a create is refused for now", self.answer(fewer, message, "pending")
            return
        if not self.stops:
            yield "progress", f"{message.action} is not offered", self.answer(world, message, "refused")
            return
        row = world.disk[message.row]
        if not row.withdrawn or row.task != message.number:
            raise Broken(f"the task of {message.row} is touched, which is not withdrawn")
        tasks = list(world.tasks)
        state = tasks[message.number].state
        if message.action == "stop":
            state = {"running": "stopped"}.get(state, state)
        else:
            state = {"future": "gone", "running": "loose", "stopped": "gone"}.get(state, state)
        tasks[message.number] = tasks[message.number]._replace(state=state)
        acted = world._replace(tasks=tuple(tasks))
        yield "progress", f"{message.action} is carried out", self.answer(acted, message, "done")
        if world.faults > 0:
            yield "fault", f"{message.action} is carried out, and the answer lost", self.without(
                acted._replace(faults=world.faults - 1), message)
            yield "fault", f"{message.action} is answered ambiguously", self.answer(fewer, message, "unknown")

    def answer(self, world: World, message: Message, answer: str, task: Optional[int] = None) -> World:
        world = self.without(world, message)
        return self.send(world, message._replace(answer=answer, task=task)) if message.awaited else world

    # Time ----------------------------------------------------------------------------------------------------

    def time_steps(self, world: World) -> Iterator[tuple]:
        if self.clock and not world.begun and world.time in ("near", "after"):
            tasks = tuple(task._replace(state="running") if task.state == "future" else task for task in world.tasks)
            yield "progress", "the start comes", world._replace(begun=True, tasks=tasks)
        if world.time == "ended" or (world.time == "near" and not world.begun) or (
                world.time == "after" and not self.ends):
            return
        # What is sent well before the start arrives before it, or not at all.
        if world.time == "before" and any(not m.answer for m in world.wire):
            return
        to = NEXT_TIME[world.time]
        yield ("progress" if to != "ended" else "time"), f"the time is {to}", world._replace(time=to)

    # People --------------------------------------------------------------------------------------------------

    def people(self, world: World) -> Iterator[tuple]:
        for i, row in enumerate(world.rows):
            if row.person and row.status == "in_doubt" and not row.held and not any(
                    m.action == "create" and m.row == i for m in world.wire):
                yield "person", f"{i} is resolved", self.resolve(world, i)
        if world.wishes == 0:
            return
        world = world._replace(wishes=world.wishes - 1)
        for i, row in enumerate(world.rows):
            if not row.withdrawn:
                for durable in (True, False):
                    how = "" if durable else ", and not flushed"
                    withdrawn = self.withdraw(world, i, durable)
                    yield "wish", f"{i} is withdrawn{how}", withdrawn
                    if self.replaces and len(world.rows) == 1:
                        yield "wish", f"{i} is replaced{how}", self.insert(withdrawn, durable)
            yield from self.functions(world, i)
        if self.restores and not world.restored and world.worker is None and not world.wire:
            rows = tuple(row._replace(held=True) for row in world.disk)
            yield "wish", "the rows are restored from a dump", world._replace(rows=rows, disk=rows, restored=True)

    def insert(self, world: World, durable: bool) -> World:
        rows = world.rows + (Row(),)
        worker = None if world.worker is None else world.worker + (None,)
        # What is not on disk is as if it were not there: a row that nobody is to send.
        disk = rows if durable else world.disk + (Row("cancelled", withdrawn=True),)
        return world._replace(rows=rows, disk=disk, worker=worker)

    def withdraw(self, world: World, i: int, durable: bool) -> World:
        row = world.rows[i]
        to = {"pending": "cancelled", "created": "created" if world.time == "ended" else "withdrawing",
              "cancelled": "in_doubt" if row.doubt and world.time != "ended" else "cancelled"}.get(row.status, row.status)
        values = {"misses": 0, "person": False, "doubt": False} if row.doubt and to == "in_doubt" else {}
        withdrawn = self.change(world, i, to, "withdraw", durable, withdrawn=True, **values)
        undone = self.change(withdrawn, i, row.status, "undo", False, **{
            name: getattr(row, name) for name in ("withdrawn", "misses", "person", "doubt")})
        if undone.rows != world.rows:
            raise Broken(f"a withdrawal that is undone leaves {undone.rows[i]} of {row}")
        return withdrawn

    def functions(self, world: World, i: int) -> Iterator[tuple]:
        row = world.rows[i]
        if row.held:
            if row.status == "sending":
                if not row.withdrawn:
                    yield "wish", f"{i} is cancelled", self.change(world, i, "cancelled", "cancel", doubt=True)
                yield "wish", f"{i} is adopted", self.change(world, i, "in_doubt", "adopt", held=False)
            elif row.status not in FINISHED or row.task is not None:
                rows = tuple(row._replace(held=False) if n == i else other for n, other in enumerate(world.rows))
                yield "wish", f"{i} is adopted", world._replace(rows=rows, disk=rows)
            return
        if row.status == "pending":
            yield "wish", f"{i} is cancelled", self.change(world, i, "cancelled", "cancel")
            yield "wish", f"{i} is retried", self.change(world, i, "pending", "retry")
        elif row.status == "in_doubt":
            if not row.withdrawn or self.error == "cancelled-while-withdrawn":
                yield "wish", f"{i} is cancelled", self.change(world, i, "cancelled", "cancel", doubt=not row.withdrawn)
            yield "wish", f"{i} is retried", self.change(world, i, "in_doubt", "retry", misses=0, person=False)
        elif row.status == "withdrawing":
            yield "wish", f"{i} is retried", self.change(world, i, "withdrawing", "retry")
            if world.tasks[row.task].state not in LIVE and world.worker is not None and world.worker[i] is None:
                yield "wish", f"{i} is resolved", self.change(world, i, "withdrawn", "resolve")
        elif row.status == "cancelled" and row.doubt and not row.withdrawn:
            yield "wish", f"{i} is retried", self.change(
                world, i, "in_doubt", "retry", misses=0, person=False, doubt=False)
        elif row.status in ("failed", "expired", "cancelled") and not row.withdrawn and (
                world.time != "ended" or row.status == "expired"):
            yield "wish", f"{i} is retried", self.change(world, i, "pending", "retry")

    def resolve(self, world: World, i: int) -> World:
        """A person looks, and says what there is."""
        row = world.rows[i]
        taken = {other.task for other in world.rows}
        found = [n for n, task in enumerate(world.tasks) if task.state in LIVE and n not in taken and task.row == i]
        if found:
            to = "withdrawing" if row.withdrawn and world.time != "ended" else "created"
            return self.change(world, i, to, "resolve", task=found[0], person=False)
        return self.change(world, i, "cancelled" if row.withdrawn else "pending", "resolve", person=False)


def check_always(world: World) -> None:
    """What holds in every world."""
    if world.time == "ended":
        return
    live = [task for task in world.tasks if task.state in LIVE]
    if len(live) > len(world.rows):
        raise Broken("there are more live tasks than requests")
    holders = [row.task for row in world.rows if row.task is not None]
    if len(holders) != len(set(holders)):
        raise Broken("two requests have one task")


def check_quiet(world: World) -> None:
    """What holds where nothing goes on any more, and the end has not come."""
    for i, row in enumerate(world.rows):
        if row.status not in FINISHED and not row.held:
            raise Broken(f"nothing goes on, and {i} is {row.status}")
    # Whoever cancels a request in doubt is told that its task may exist.
    spared = sum(row.doubt for row in world.rows)
    kept = {row.task for row in world.rows if row.status == "created" or row.held}
    live = {n for n, task in enumerate(world.tasks) if task.state in LIVE}
    if len(live - kept) > spared and not any(row.held for row in world.rows):
        raise Broken("a task lives that no request has")
    if any(row.status == "created" and row.withdrawn and not row.held for row in world.rows):
        raise Broken("a request is withdrawn, and its task lives")
    if any(row.status == "created" and row.task not in live for row in world.rows):
        raise Broken("a request is created, and its task is not there")
