"""A small made-up domain for tests of the core: keyed rows, a queue, parking under a key, and random transactions."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import msgspec

from perdure.core.table import Index, Key, Read, Scan, Table
from perdure.core.view import View
from perdure.core.write import Write
from perdure.errors import RejectedError


class Job(msgspec.Struct, frozen=True):
    queue: str
    state: str
    priority: int
    available_at: int
    attempts: int


class Owner(msgspec.Struct, frozen=True):
    owner: int | None
    parked: int


class Letter(msgspec.Struct, frozen=True):
    owner: int | None
    at: int


class Line(msgspec.Struct, frozen=True):
    text: str


JOB = Table("job", ("id",), Job, fixed=("queue",), indexed=("state", "priority", "available_at"))
OWNER = Table("owner", ("key",), Owner)
LETTER = Table("letter", ("key", "id"), Letter)
LINE = Table("line", ("n",), Line, kind="log")
TABLES: tuple[Table[Any], ...] = (JOB, OWNER, LETTER, LINE)
READY = Index(
    JOB,
    "job_ready",
    prefix=("queue",),
    order=("priority", "available_at", "id"),
    where=lambda job: job.state == "pending",
    where_sql="state = 'pending'",
)
PARKED = Index(
    LETTER, "letter_parked", prefix=("key",), order=("at", "id"), where=lambda letter: letter.owner is None, where_sql="owner is null"
)
INDEXES = (READY, PARKED)


class Act(msgspec.Struct, frozen=True):
    """Base of the made-up writes: nothing is declared, all is discovered."""

    def reads(self) -> Iterable[Read]:
        return ()

    def decide(self, view: View) -> object:
        raise NotImplementedError


class Create(Act, frozen=True):
    id: int
    queue: str
    priority: int
    available_at: int

    def decide(self, view: View) -> None:
        if view.get(JOB.key(self.id)) is not None:
            raise RejectedError(f"job {self.id} exists")
        view.insert(JOB.key(self.id), Job(self.queue, "pending", self.priority, self.available_at, 0))
        view.count("jobs", 1)
        view.signal(f"queue/{self.queue}")


class Take(Act, frozen=True):
    queue: str
    most: int
    after: tuple[int, ...] | None
    upto: tuple[int, ...] | None
    declared: bool

    def _scan(self) -> Scan[Job]:
        return Scan(READY, (self.queue,), self.most, self.after, self.upto)

    def reads(self) -> Iterable[Read]:
        if self.declared:
            yield self._scan()

    def decide(self, view: View) -> list[tuple[object, int]]:
        taken: list[tuple[object, int]] = []
        for key, job in view.scan(self._scan()):
            view.update(key, msgspec.structs.replace(job, state="taken", attempts=job.attempts + 1))
            taken.append((key.parts, job.attempts + 1))
        return taken


class Release(Act, frozen=True):
    id: int
    delay: int

    def reads(self) -> Iterable[Read]:
        yield JOB.key(self.id)

    def decide(self, view: View) -> None:
        job = view.get(JOB.key(self.id))
        if job is None or job.state != "taken":
            raise RejectedError(f"job {self.id} is not taken")
        view.update(JOB.key(self.id), msgspec.structs.replace(job, state="pending", available_at=job.available_at + self.delay))


class Drop(Act, frozen=True):
    id: int

    def decide(self, view: View) -> None:
        if view.get(JOB.key(self.id)) is None:
            raise RejectedError(f"no job {self.id}")
        view.delete(JOB.key(self.id))
        view.count("jobs", -1)


class Park(Act, frozen=True):
    key: str
    id: int

    def reads(self) -> Iterable[Read]:
        yield OWNER.key(self.key)

    def decide(self, view: View) -> int | None:
        if view.get(LETTER.key(self.key, self.id)) is not None:
            raise RejectedError("accepted before")
        held = view.get(OWNER.key(self.key))
        owner = None if held is None else held.owner
        view.insert(LETTER.key(self.key, self.id), Letter(owner, view.tick()))
        if owner is None:
            parked = Owner(None, 1 if held is None else held.parked + 1)
            if held is None:
                view.insert(OWNER.key(self.key), parked)
            else:
                view.update(OWNER.key(self.key), parked)
        return owner


class Bind(Act, frozen=True):
    key: str
    owner: int

    def decide(self, view: View) -> list[object]:
        held = view.get(OWNER.key(self.key))
        if held is not None and held.owner is not None:
            raise RejectedError(f"{self.key} belongs to {held.owner}")
        given: list[object] = []
        guard: Key[Any] = OWNER.key(self.key)
        while rows := view.scan(Scan(PARKED, (self.key,), 2, guard=guard)):
            for key, letter in rows:
                view.update(key, Letter(self.owner, letter.at))
                given.append(key.parts)
        assert len(given) == (held.parked if held else 0), "the guard row counts what is parked"
        if held is None:
            view.insert(guard, Owner(self.owner, 0))
        else:
            view.update(guard, Owner(self.owner, 0))
        return given


class Note(Act, frozen=True):
    n: int

    def decide(self, view: View) -> int:
        view.insert(LINE.key(self.n), Line(f"line {self.n}"))
        return view.tick()


class Follow(Act, frozen=True):
    key: str

    def decide(self, view: View) -> Job | None:
        held = view.get(OWNER.key(self.key))
        return None if held is None or held.owner is None else view.get(JOB.key(held.owner))


class Stumble(Act, frozen=True):
    """Change things, then be refused: nothing of it may stay."""

    id: int
    queue: str

    def decide(self, view: View) -> None:
        for key, job in view.scan(Scan(READY, (self.queue,), 3)):
            view.update(key, msgspec.structs.replace(job, priority=9))
        view.count("jobs", 100)
        view.tick()
        view.signal("never")
        raise RejectedError("changed my mind")


def random_write(rng: random.Random) -> Write[Any]:
    queue, key, job = rng.choice("ab"), rng.choice("klm"), rng.randrange(30)
    bound = (None, (1,), (1, 3))
    makers: list[Write[Any]] = [
        Create(job, queue, rng.randrange(3), rng.randrange(5)),
        Create(job, queue, rng.randrange(3), rng.randrange(5)),
        Take(queue, rng.randrange(1, 5), rng.choice(bound), rng.choice(bound), rng.random() < 0.5),
        Release(job, rng.randrange(3)),
        Drop(job),
        Park(key, rng.randrange(40)),
        Bind(key, job),
        Follow(key),
        Note(rng.randrange(2000)),
        Stumble(job, queue),
    ]
    return rng.choice(makers)


def random_transaction(rng: random.Random) -> tuple[Write[Any], ...]:
    return tuple(random_write(rng) for _ in range(rng.choice((1, 1, 2, 3))))
