"""What the engine does for messages that wait for somebody, and for the schemas of its app."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure import limits
from perdure.conversations.tables import PROCESS
from perdure.core.table import Read, Scan
from perdure.core.view import View
from perdure.engine.flush import present
from perdure.engine.handling import Handling, ref_of
from perdure.engine.notes import NO_APP, Envelope, Note, Rules
from perdure.engine.redriving import address_of
from perdure.engine.starting import package_of
from perdure.errors import NoRoute, ProcessNotFound
from perdure.flows.tables import FLOW
from perdure.identity import RegistryKey, TenantId
from perdure.messages.tables import DELAYED, EXPIRING, PARKING, MessageStatus, ParkingRow
from perdure.messages.writes import dead, unqueue
from perdure.operations.tables import SCHEMA, SchemaRow
from perdure.routing.tables import KEY, MEMBERS
from perdure.routing.writes import find_owner, take_parked

replace = msgspec.structs.replace


class ExpireParked(msgspec.Struct, frozen=True, gc=False):
    """Make dead letters of parked messages whose time is over."""

    def reads(self) -> Iterable[Read]:
        """Nothing is sure."""
        return ()

    def decide(self, view: View) -> list[Note]:
        """Return what their owners have to do."""
        handling = Handling(view, NO_APP)
        rows = view.scan(Scan(EXPIRING, (MessageStatus.PARKED,), limits.FAN_OUT_CHUNK, upto=(view.now,)))
        for key, row in rows:
            tenant_id = str(key.parts[0])
            assert row.parked_under is not None, "a parked message says where"
            way, _, name = row.parked_under.partition(" ")
            if way == "key":
                assert view.get(KEY.key(tenant_id, name)) is not None, "the key's row counts what is parked"
                take_parked(view, TenantId(tenant_id), RegistryKey(name), 1)
            else:
                guard = PARKING.key(tenant_id, row.parked_under)
                view.update(guard, ParkingRow(present(view.get(guard)).parked - 1))
            text = f"nobody was at {row.parked_under!r} in time"
            view.update(key, dead(view, key, replace(row, expires_at=None), reason="expired", detail=text))
            handling.seal_error(tenant_id, ref_of(key), ProcessNotFound(text), asked=row.asked)
        return handling.notes


class ExpireQueued(msgspec.Struct, frozen=True, gc=False):
    """Make dead letters of queued messages that have no handler and whose time is over.

    A turn may have taken one in already; its commit finds the message gone, and the turn is read again without it.
    """

    rules: Rules

    def reads(self) -> Iterable[Read]:
        """Nothing is sure."""
        return ()

    def decide(self, view: View) -> list[Note]:
        """Return what their owners have to do."""
        handling = Handling(view, self.rules)
        rows = view.scan(Scan(EXPIRING, (MessageStatus.QUEUED,), limits.FAN_OUT_CHUNK, upto=(view.now,)))
        for key, row in rows:
            tenant_id, process_id = str(key.parts[0]), str(row.process_id)
            process = present(view.get(PROCESS.key(tenant_id, process_id)))
            fresh = replace(row, expires_at=None)
            if handling.handles(process, row.kind):  # it came from where no app is, or the code is another
                view.update(key, fresh)
                continue
            text = f"process {process_id!r} has no handler for a {row.kind!r} and did not receive it in time"
            view.update(key, dead(view, key, fresh, reason="no-handler", detail=text))
            unqueue(view, tenant_id, process_id, 1)
            handling.seal_error(tenant_id, ref_of(key), NoRoute(text), asked=row.asked)
        return handling.notes


class ReleaseDelayed(msgspec.Struct, frozen=True, gc=False):
    """Deliver messages whose time has come: each as if its sender sent it now."""

    rules: Rules

    def reads(self) -> Iterable[Read]:
        """Nothing is sure."""
        return ()

    def decide(self, view: View) -> list[Note]:
        """Return what their owners have to do."""
        handling = Handling(view, self.rules)
        rows = view.scan(Scan(DELAYED, (), limits.FAN_OUT_CHUNK, upto=(view.now,)))
        for key, row in rows:
            tenant_id, source, message_id = (str(part) for part in key.parts)
            envelope = Envelope(
                tenant_id=tenant_id,
                source=source,
                message_id=message_id,
                digest=row.digest,
                kind=row.kind,
                payload=row.payload,
                headers=row.headers,
                address=address_of(row),
                process_id=row.process_id or message_id,
                inner=True,
                sender=row.sender,
                package=package_of(view, tenant_id, row.sender),
            )
            fresh = replace(row, status=MessageStatus.DONE, available_at=None, process_id=None, tick=view.tick())
            view.update(key, handling.place(envelope, fresh))
        return handling.notes


class HandOver(msgspec.Struct, frozen=True, gc=False):
    """Give what is parked under a key or tag to whom a caller of the registry has put there."""

    rules: Rules
    tenant_id: str
    parked_under: str

    def reads(self) -> Iterable[Read]:
        """Nothing is sure."""
        return ()

    def decide(self, view: View) -> list[Note]:
        """Hand it over, if somebody is there by now."""
        handling = Handling(view, self.rules)
        way, _, name = self.parked_under.partition(" ")
        if way == "key":
            owner = find_owner(view, self.tenant_id, name)
        else:
            members = view.scan(Scan(MEMBERS, (self.tenant_id, name), 1))
            owner = str(members[0][0].parts[2]) if members else None
        if owner is not None:
            handling.hand_over(self.tenant_id, owner, self.parked_under)
        return handling.notes


class PutSchemas(msgspec.Struct, frozen=True, gc=False):
    """Store the schemas of an app's replies, so that what is sealed can be read for as long as it is kept."""

    documents: dict[str, bytes]

    def reads(self) -> Iterable[Read]:
        """Name them all."""
        return [SCHEMA.key(hash) for hash in self.documents]

    def decide(self, view: View) -> None:
        """Add those that are missing; a hash names its document."""
        for hash, document in self.documents.items():
            if view.get(SCHEMA.key(hash)) is None:
                view.insert(SCHEMA.key(hash), SchemaRow(document))


class Pull(msgspec.Struct, frozen=True, gc=False):
    """Let processes begin whose limit has room by now."""

    rules: Rules
    tenant_id: str
    process_type: str
    flow_key: str

    def reads(self) -> Iterable[Read]:
        """Name the limits of the key and of the type."""
        return {FLOW.key(self.tenant_id, self.process_type, key) for key in (self.flow_key, "")}

    def decide(self, view: View) -> tuple[int, list[Note]]:
        """Return how many begin."""
        handling = Handling(view, self.rules)
        return handling.pull(self.tenant_id, self.process_type, self.flow_key), handling.notes
