"""What a new process starts with: the version of its code, and its place in a queue."""

from __future__ import annotations

from perdure.conversations.tables import PROCESS
from perdure.core.view import View
from perdure.engine.notes import Envelope, Said
from perdure.flows.tables import PlaceRow
from perdure.messages.tables import MessageRow
from perdure.packages.routes import route_for
from perdure.packages.tables import TYPE
from perdure.packages.writes import hold


def version_for(view: View, envelope: Envelope, process_id: str) -> str | None:
    """Return the package that a new process of the type that is addressed starts on, held; None for the app's own code.

    Raises ProcessTypeRetired, PackageMissing.
    """
    process_type = envelope.address.process_type
    package = envelope.package
    if package is None or view.get(TYPE.key(process_type, package)) is None:
        package = route_for(view, process_type, key=envelope.address.name or process_id, tenant=envelope.tenant_id)
    if package is not None:
        hold(view, package)
    return package


def package_of(view: View, tenant_id: str, sender: str) -> str | None:
    """Return the package of the process that has sent a message; None without one, for local code, and once it was removed."""
    row = view.get(PROCESS.key(tenant_id, sender)) if sender else None
    return None if row is None else row.package_hash


def place_of(said: Said | None, row: MessageRow) -> PlaceRow | None:
    """Return the place that a message asks for which is to start a process; None without flow control. Raises UsageError."""
    return None if said is None or said.flow is None else said.flow.place(row.kind, row.payload)
