"""Every table of a store, room by room: what has to come along when a store moves."""

from __future__ import annotations

from typing import Any, Final

from perdure.blobs import tables as blobs
from perdure.commands import tables as commands
from perdure.conversations import tables as conversations
from perdure.core.table import Table
from perdure.flows import tables as flows
from perdure.messages import tables as messages
from perdure.operations import tables as operations
from perdure.packages import tables as packages
from perdure.routing import tables as routing
from perdure.streams import tables as streams
from perdure.timers import tables as timers
from perdure.tokens import tables as tokens

_ROOMS: Final = (blobs, commands, conversations, flows, messages, operations, packages, routing, streams, timers, tokens)

TABLES: Final[tuple[Table[Any], ...]] = tuple(sorted((table for room in _ROOMS for table in room.TABLES), key=lambda table: table.name))
