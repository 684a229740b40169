"""What has become of everything, as the store tells it: by webhook, by process, by step.

Nothing here depends on the order in which webhooks came, nor on the ids that the engine has made, so two runs over the
same webhooks can be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

import msgspec

from perdure import Store
from perdure.engine import inspection
from perdure.engine.inspection import Explanation, ProcessInfo, TimelineEntry
from perdure.identity import derived_id
from perdure.messages.mail import reference

_PAGE: Final = 1_000
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of one webhook: handled, failed, parked, dead, or refused; and what `explain` says of it."""

    tenant: str
    delivery: str
    event: str
    outcome: str
    text: str


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One message handled by one process: where the message came from, its sealed reply, and its recorded steps."""

    tenant: str
    origin: str
    subject: str
    reply: str | None
    steps: list[str]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One process at the end."""

    tenant: str
    process_type: str
    status: str
    fields: Any


class Recorded(msgspec.Struct, frozen=True):
    """One recorded step: what it belongs to, and how often it stands in the record, which is once."""

    event: str
    times: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Everything; `recorded` is by idempotency key."""

    fates: list[Fate]
    deeds: list[Deed]
    states: list[State]
    recorded: dict[str, Recorded]

    def lines(self) -> list[str]:
        """Return what two runs over the same webhooks have in common, whatever the order and the crashes, sorted."""
        fates = [
            f"webhook {fate.tenant} {fate.event} {fate.delivery}: {fate.outcome}" + ("" if fate.outcome == "handled" else f": {fate.text}")
            for fate in self.fates
        ]
        deeds = [f"deed {_encode(deed).decode()}" for deed in self.deeds]
        states = [f"process {_encode(state).decode()}" for state in self.states]
        return sorted([*fates, *deeds, *states])

    def digest(self) -> str:
        """Return a digest of `lines`."""
        return hashlib.sha256("\n".join(self.lines()).encode()).hexdigest()


class _Tenant:
    """All that the store holds of one tenant. `source` is whom the webhooks came from: their ids are the ids of its messages."""

    def __init__(self, id: str, messages: list[Explanation], processes: list[ProcessInfo], *, source: str) -> None:
        self.id = id
        self.source = source
        self.messages = {reference(message.source, message.message_id): message for message in messages}
        self.processes = processes
        self.subjects = {process.process_id: str(process.fields["subject"]) for process in processes}

    def origins(self, webhooks: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """Return, by message id, the event type and the webhook that each message comes from."""
        found = {reference(self.source, id): (event, id) for id, event in webhooks.items()}
        for id, event in webhooks.items():
            message = self.messages.get(reference(self.source, id))
            if message is not None and message.copies:
                copies = (derived_id("fan-out", self.id, self.source, id, process_id) for process_id in self.subjects)
                found.update((copy, (event, id)) for copy in copies if copy in self.messages)
        for id, message in self.messages.items():
            if id not in found:
                found[id] = (message.kind, f"{message.kind} from {self.subjects.get(message.sender, message.sender)}")
        return found


async def listed(store: Store, tenant: str) -> list[Explanation]:
    """Return all messages of a tenant."""
    found: list[Explanation] = []
    after: tuple[str, str] | None = None
    while page := await inspection.messages(store, tenant=tenant, after=after, limit=_PAGE):
        found.extend(page)
        after = (page[-1].source, page[-1].message_id)
    return found


async def known(store: Store, tenants: Iterable[str]) -> set[tuple[str, str]]:
    """Return the (tenant, id) of every message that the store has accepted."""
    return {(tenant, message.message_id) for tenant in tenants for message in await listed(store, tenant)}


async def outcome_of(store: Store, webhooks: Mapping[str, Mapping[str, str]], errors: Mapping[str, str], *, source: str = "") -> Outcome:
    """Return what has become of everything.

    Args:
        store: open.
        webhooks: event types by delivery id, by tenant.
        errors: what senders were told, by delivery id.
        source: whose messages the webhooks are; of a server, the name of the source in their path.
    """
    outcome = Outcome(fates=[], deeds=[], states=[], recorded={})
    for id in sorted(webhooks):
        tenant = _Tenant(id, await listed(store, id), await _processes(store, id), source=source)
        await _add(outcome, store, tenant, webhooks[id], errors)
    outcome.deeds.sort(key=_encode)
    return outcome


async def _add(outcome: Outcome, store: Store, tenant: _Tenant, webhooks: Mapping[str, str], errors: Mapping[str, str]) -> None:
    origins = tenant.origins(webhooks)
    steps: dict[str, list[str]] = {}
    failed: set[str] = set()
    for process in tenant.processes:
        async for entry in _timeline(store, tenant.id, process.process_id):
            event, origin = origins[entry.message_id]
            if entry.event == "StepCompleted":
                key = derived_id(tenant.id, process.process_id, entry.message_id, entry.name)
                before = outcome.recorded.get(key)
                outcome.recorded[key] = Recorded(event, 1 if before is None else before.times + 1)
                steps.setdefault(entry.message_id, []).append(entry.name)
            elif entry.event == "ProcessingFinished" and "outcome=error" in entry.detail:
                failed.add(origin)
    for id, message in tenant.messages.items():
        if message.status == "done" and message.copies is None:
            deed = Deed(
                tenant=tenant.id,
                origin=origins[id][1],
                subject=tenant.subjects.get(message.process_id or "", ""),
                reply=message.reply,
                steps=sorted(steps.get(id, [])),
            )
            outcome.deeds.append(deed)
    for delivery, event in webhooks.items():
        fate, text = _fate(tenant.messages.get(reference(tenant.source, delivery)), delivery in failed, errors.get(delivery, ""))
        outcome.fates.append(Fate(tenant=tenant.id, delivery=delivery, event=event, outcome=fate, text=text))
    for process in tenant.processes:
        outcome.states.append(State(tenant=tenant.id, process_type=process.process_type, status=process.status, fields=process.fields))


def _fate(message: Explanation | None, failed: bool, error: str) -> tuple[str, str]:
    if message is None:
        return "refused", error
    if message.status == "done":
        return "failed" if failed else "handled", message.text
    return message.status, message.text


async def _processes(store: Store, tenant: str) -> list[ProcessInfo]:
    found: list[ProcessInfo] = []
    after: str | None = None
    while True:
        page = await inspection.processes(store, tenant=tenant, after=after, limit=_PAGE)
        found.extend([await inspection.process(store, one.process_id, tenant=tenant) for one in page])
        after = page.next
        if after is None:
            return found


async def _timeline(store: Store, tenant: str, process_id: str) -> AsyncIterator[TimelineEntry]:
    after = -1
    while page := await inspection.timeline(store, process_id, tenant=tenant, after=after, limit=_PAGE):
        for entry in page:
            yield entry
        after = page[-1].seq
