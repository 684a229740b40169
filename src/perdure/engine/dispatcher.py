"""Who may run: turns in memory and steps under way have bounds, and tenants take turns at both.

Source: engine.md, "States, memory, recovery", fairness.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from perdure import limits
from perdure.clock import Alarm, Micros
from perdure.engine.notes import TurnStarted

if TYPE_CHECKING:
    from perdure.engine.apart.remote import AnyTurn
    from perdure.engine.operation import Operation
    from perdure.engine.owner import Owner
    from perdure.engine.resident import Resident
    from perdure.engine.stage import Stage

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Want(msgspec.Struct, gc=False):
    """What a process that waits for its turn is to do: run the turn of `note`, or be read from the store.

    `crashed`: the attempt is recorded first. `wake`: it waits and something is due, so it is made runnable first.
    """

    note: TurnStarted | None = None
    crashed: bool = False
    wake: bool = False


class _Lane(OrderedDict[K, V]):
    def __init__(self, *, aside: bool = False) -> None:
        super().__init__()
        self.aside = aside


class TenantQueue(Generic[K, V]):
    """A queue in which tenants take turns.

    What a tenant has queued goes in order, in two lanes that take turns as well: what is put `aside` comes in
    thousands, timers that are due at one instant, and the rest does not wait until they are through.
    """

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, tuple[_Lane[K, V], _Lane[K, V]]] = OrderedDict()
        self.size = 0

    def find(self, tenant_id: str, key: K) -> V | None:
        """Return what is queued under the key."""
        for lane in self._tenants.get(tenant_id, ()):
            if key in lane:
                return lane[key]
        return None

    def length(self, tenant_id: str) -> int:
        """Return how many a tenant has queued."""
        return sum(map(len, self._tenants.get(tenant_id, ())))

    def put(self, tenant_id: str, key: K, value: V, *, aside: bool = False) -> None:
        """Queue something under a key that is not queued yet."""
        lanes = self._tenants.get(tenant_id)
        if lanes is None:
            lanes = self._tenants[tenant_id] = (_Lane(), _Lane(aside=True))
        lanes[lanes[0].aside is not aside][key] = value
        self.size += 1

    def take(self) -> tuple[str, K, V]:
        """Return the first of the tenant whose turn it is."""
        tenant_id, (lane, other) = self._tenants.popitem(last=False)
        key, value = (lane or other).popitem(last=False)
        self.size -= 1
        if lane or other:
            self._tenants[tenant_id] = (other, lane)
        return tenant_id, key, value

    def __iter__(self) -> Iterator[tuple[str, K, V]]:
        """Go through all that is queued, tenant by tenant."""
        for tenant_id, lanes in self._tenants.items():
            for lane in lanes:
                for key, value in lane.items():
                    yield tenant_id, key, value

    def drop(self, tenant_id: str, key: K) -> None:
        """Take out what may be queued under the key."""
        lanes = self._tenants.get(tenant_id, ())
        for lane in lanes:
            if key in lane:
                del lane[key]
                self.size -= 1
        if lanes and not any(lanes):
            del self._tenants[tenant_id]


class Dispatcher:
    """Bounds what runs at the same time.

    A turn holds one of `max_concurrency` slots from when it is read or begun until it waits or is over: while its code
    runs, while its commits are under way, and while its steps run, except when those turn out to be long. Who finds no
    slot waits durably: in the store the process is runnable, in memory there is its key. Long steps hold only their
    step slots, of which there are `max_steps`.

    Args:
        owner: whose turns they are.
        max_concurrency: turns; None: as many as is good for one tenant alone, or for several side by side.
        max_steps: steps.
    """

    def __init__(self, owner: Owner, *, max_concurrency: int | None, max_steps: int) -> None:
        self._owner = owner
        self._wide = limits.MAX_CONCURRENCY_ALONE if max_concurrency is None else max_concurrency
        self._narrow = limits.MAX_CONCURRENCY if max_concurrency is None else max_concurrency
        self._tenant = ""
        self._beside_until: Micros = 0
        self._max_steps = max_steps
        self._with_slot: set[Resident] = set()
        self._queue: TenantQueue[str, Want] = TenantQueue()
        self._notes = 0
        self._coming = 0
        self._woken = 0
        self._scheduled = False
        self._behind: set[str] = set()
        self._alarm: Alarm | None = None
        self._steps = 0
        self._queued_steps: TenantQueue[Operation, tuple[Stage, AnyTurn]] = TenantQueue()

    # --- turns ---------------------------------------------------------------------------------------

    @property
    def free(self) -> bool:
        """Whether a turn may run at once: there is a slot, and nobody waits for one."""
        return not self._queue.size and len(self._with_slot) + self._coming < self._bound()

    def wakes(self) -> bool:
        """Whether one more process may be read at once: a turn may run, and not too many were read in this round of the loop."""
        if not self.free:
            return False
        if not self._woken:
            self._owner.loop.call_soon(self._next_round)
        self._woken += 1
        return self._woken <= limits.WAKE_UPS

    def _next_round(self) -> None:
        self._woken = 0

    def _bound(self) -> int:
        """How many turns may run: many for a tenant that is alone, whose commits are the larger for it; few for several."""
        return self._narrow if self._beside_until and self._owner.clock.now() < self._beside_until else self._wide

    def _meet(self, tenant_id: str) -> None:
        """Another tenant than the last one wants to run."""
        if self._tenant:
            self._beside_until = self._owner.clock.now() + limits.BESIDE_US
        self._tenant = tenant_id

    @property
    def crowded(self) -> bool:
        """Whether somebody waits for a slot."""
        return self._queue.size > 0

    def give_slot(self, resident: Resident) -> None:
        """Give it a slot, whether there is one or not."""
        if not resident.has_slot:
            if resident.tenant_id != self._tenant:
                self._meet(resident.tenant_id)
            resident.has_slot = True
            self._with_slot.add(resident)

    def admits(self, resident: Resident, *, timer: bool) -> bool:
        """Return whether a process in memory may go on now; else it is queued. `timer`: because one is due."""
        if not self.free:
            self.offer(resident.tenant_id, resident.process_id, Want(wake=timer), known=True)
            return False
        self.give_slot(resident)
        return True

    def release(self, resident: Resident) -> None:
        """Take its slot back, and let the next one run."""
        if resident.has_slot:
            resident.has_slot = False
            self._with_slot.discard(resident)
            if self._queue.size:
                self._schedule()

    def offer(self, tenant_id: str, process_id: str, want: Want, *, known: bool = False) -> bool:
        """Queue a process. False: its tenant has too many queued; the store knows, and is looked at when they have run.

        One that is in memory, `known`, is queued all the same: what came for it may be nowhere else, a step's end, say.
        """
        if tenant_id != self._tenant:
            self._meet(tenant_id)
        queued = self._queue.find(tenant_id, process_id)
        if queued is not None:
            self.stale(tenant_id, process_id)  # what was noted of it is not all any more
            queued.crashed = queued.crashed or want.crashed
            queued.wake = queued.wake or want.wake
            return True
        if not known and self._queue.length(tenant_id) >= limits.DISPATCH_MAX:
            self._behind.add(tenant_id)
            return False
        if want.note is not None and (self._notes >= limits.DISPATCH_NOTES or len(want.note.payload) > limits.DISPATCH_NOTE_BYTES):
            want.note = None
        self._notes += want.note is not None
        self._queue.put(tenant_id, process_id, want, aside=want.wake)
        self._schedule()
        return True

    def waits(self, tenant_id: str, process_id: str) -> bool:
        """Return whether a process is queued."""
        return self._queue.size > 0 and self._queue.find(tenant_id, process_id) is not None

    def stale(self, tenant_id: str, process_id: str) -> None:
        """Something came for a process that may be queued: it is read when its turn comes."""
        queued = self._queue.find(tenant_id, process_id) if self._queue.size else None
        if queued is not None and queued.note is not None:
            queued.note = None
            self._notes -= 1

    def _schedule(self) -> None:
        """Look at the queue in the next round of the loop: messages and commits get theirs in between."""
        if not self._scheduled:
            self._scheduled = True
            self._owner.loop.call_soon(self._owner.later, self._run)

    def _run(self) -> None:
        self._scheduled = False
        if not self._owner.is_open:  # the processes are another's by now: whoever looks on here would look for ever
            return
        for _ in range(min(limits.WAKE_UPS, self._bound() - len(self._with_slot) - self._coming)):
            if not self._queue.size:
                break
            tenant_id, process_id, want = self._queue.take()
            self._notes -= want.note is not None
            self._coming += 1
            self._owner.later(self._let_in, tenant_id, process_id, want)
            if tenant_id in self._behind and not self._queue.length(tenant_id):
                self._behind.discard(tenant_id)
                self._owner.refill(tenant_id)
        if not self._queue.size:
            self.stop()
        elif len(self._with_slot) + self._coming < self._bound():
            self._schedule()
        elif self._alarm is None:
            clock = self._owner.clock
            self._alarm = clock.call_at(clock.now() + limits.LONG_STEP_US, lambda: self._owner.later(self._look_at_steps))

    def _let_in(self, tenant_id: str, process_id: str, want: Want) -> None:
        self._coming -= 1
        self._owner.let_in(tenant_id, process_id, want)
        if self._queue.size:
            self._schedule()

    def _look_at_steps(self) -> None:
        """Somebody waits for a slot: who has done nothing since the last look but wait for its steps gives its slot up."""
        self._alarm = None
        for resident in list(self._with_slot):
            if resident.only_steps():
                self.release(resident)
        if self._queue.size:
            self._schedule()

    def unbegun(self) -> set[tuple[str, str]]:
        """Return who is queued, by tenant and id, for an attempt that is counted already."""
        return {(tenant_id, process_id) for tenant_id, process_id, want in self._queue if not want.crashed}

    def forget(self, gone: Callable[[str, str], bool]) -> set[tuple[str, str]]:
        """Take out of the queue who is another node's by now, whose turn may be over before it is ours again; return who of them is `unbegun`."""
        unbegun = set()
        for tenant_id, process_id, want in list(self._queue):
            if gone(tenant_id, process_id):
                self._notes -= want.note is not None
                self._queue.drop(tenant_id, process_id)
                if not want.crashed:
                    unbegun.add((tenant_id, process_id))
        return unbegun

    def stop(self) -> None:
        """Look at long steps no more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # --- steps ---------------------------------------------------------------------------------------

    def admits_step(self, resident: Stage, turn: AnyTurn, step: Operation) -> bool:
        """Return whether a step may begin now; else it is queued."""
        if self._steps < self._max_steps:
            self._steps += 1
            return True
        self._queued_steps.put(resident.tenant_id, step, (resident, turn))
        return False

    def drop_step(self, tenant_id: str, step: Operation) -> None:
        """Forget a step that may not have begun."""
        if self._queued_steps.size:
            self._queued_steps.drop(tenant_id, step)

    def step_over(self, _task: object = None) -> None:
        """A step has ended: its slot is the next one's."""
        if not self._queued_steps.size:
            self._steps -= 1
            return
        _, step, (resident, turn) = self._queued_steps.take()
        self._owner.later(resident.begin_late, turn, step)
