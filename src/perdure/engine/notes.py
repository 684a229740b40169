"""What deliveries are made of: the app's rules, a message on its way, and what a commit asks of the owner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from perdure.clock import Micros
from perdure.conversations.tables import ProcessRow
from perdure.core.table import Key
from perdure.engine.addressing import Address
from perdure.engine.flow import FlowRule
from perdure.flows.writes import Limits
from perdure.messages.tables import MESSAGE, MessageRow
from perdure.replies import MailArrived

LEADING: Final = 0  # the shard whose owner does for all nodes what concerns no process alone


def owns_all(shard: int) -> bool:
    """Return that a shard is owned: there is one node."""
    del shard
    return True


class Said(msgspec.Struct, frozen=True, gc=False):
    """What the code of a process type says, as far as decisions need it.

    `kinds` start a turn; `initial` are its first fields, empty when it has none; `flow` is its flow control.
    """

    kinds: frozenset[str]
    initial: bytes = b""
    flow: FlowRule | None = None


class Rules(msgspec.Struct, frozen=True, gc=False):
    """What decisions go by: what code says, by process type and package, the app's own under None.

    Of packages, those are here that are loaded; they come and go. `limits` are those of flow control by process type, as the
    version says that was loaded last. Without an app (`foreign`: a command line, say) nothing can
    be started: the process is made runnable, and the engine that owns it starts what is queued. The same holds for processes
    of shards that another node `owns`, and of versions that are not loaded.
    """

    types: Mapping[tuple[str, str | None], Said]
    limits: Mapping[str, Limits] = {}
    foreign: bool = False
    owns: Callable[[int], bool] = owns_all

    def of(self, process: ProcessRow) -> Said | None:
        """Return what the code of a process says, if it is here."""
        return self.types.get((process.process_type, process.package_hash))

    @property
    def leads(self) -> bool:
        """Whether this node does what is nobody's: it owns the first shard."""
        return not self.foreign and self.owns(LEADING)


NO_APP = Rules({}, foreign=True)


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message before it is accepted.

    `inner` is one of a process's own, or a copy of a fan-out: it cannot be refused any more, so what nobody can take
    becomes a dead letter. `process_id` names the process that it would start. `available_at` is when it is delivered, if
    not at once. `fresh`: its id, and that of the process, were made for it, so that nobody has to look whether they are there.
    `package` is the sender's: a process of a type that it defines starts on it too, and not where the route leads.
    """

    tenant_id: str
    source: str
    message_id: str
    digest: bytes
    kind: str
    payload: bytes
    headers: bytes | None = None
    address: Address
    process_id: str
    expires_at: Micros | None = None
    available_at: Micros | None = None
    inner: bool = False
    sender: str = ""
    fresh: bool = False
    package: str | None = None

    @property
    def key(self) -> Key[MessageRow]:
        """The key of its row."""
        return MESSAGE.key(self.tenant_id, self.source, self.message_id)


# --- what the owner has to do after the commit -------------------------------------------------------


class TurnStarted(msgspec.Struct, frozen=True, gc=False):
    """A turn is open: run its handler. `process` is the row as committed."""

    tenant_id: str
    process_id: str
    process: ProcessRow
    ref: str
    kind: str
    payload: bytes
    fields: bytes | None
    at: Micros
    mail_seen: int
    queued: int


class FanOutBegun(msgspec.Struct, frozen=True, gc=False):
    """A fan-out has members left to deliver to."""

    tenant_id: str
    source: str
    message_id: str


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """A message has its answer."""

    tenant_id: str
    ref: str
    outcome: str
    response: bytes


class CancelAsked(msgspec.Struct, frozen=True, gc=False):
    """A process with an open turn was asked to stop; `number` is the request's among the mail."""

    tenant_id: str
    process_id: str
    reason: str
    number: int


class Held(msgspec.Struct, frozen=True, gc=False):
    """A process was paused."""

    tenant_id: str
    process_id: str


class Resumed(msgspec.Struct, frozen=True, gc=False):
    """A process with an open turn goes on: one that was paused, or is stuck."""

    tenant_id: str
    process_id: str


class ToLoad(msgspec.Struct, frozen=True, gc=False):
    """A process has a turn to begin, and its version is not loaded."""

    tenant_id: str
    process_id: str
    process_type: str
    package: str


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """What is in memory of a process does not count any more; `reload` says that it goes on from the store."""

    tenant_id: str
    process_id: str
    reload: bool = False


class ChildrenToAsk(msgspec.Struct, frozen=True, gc=False):
    """Some children of cancelled processes are to be asked to stop, too."""


class Due(msgspec.Struct, frozen=True, gc=False):
    """Something in the store is due then."""

    at: Micros


Note = TurnStarted | MailArrived | FanOutBegun | Sealed | CancelAsked | Held | Resumed | ToLoad | Dropped | ChildrenToAsk | Due


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a message when it was accepted; `copies` is the number of members a fan-out begins with."""

    duplicate: bool
    status: str
    process_id: str | None
    copies: int | None = None
