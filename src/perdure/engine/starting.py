"""What a new process starts with: the version of its code, and its place in a queue."""

from __future__ import annotations

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


def place_of(said: Said | None, row: MessageRow) -> PlaceRow | None:
    """Return the place that a message asks for which is to start a process; None without flow control. Raises UsageError."""
    return None if said is None or said.flow is None else said.flow.place(row.kind, row.payload)
