"""Durable, message-driven processes for Python, on your own database."""

from typing import TYPE_CHECKING, Any, Final

from perdure.blob import Blob
from perdure.clock import Clock, SystemClock, VirtualClock
from perdure.commands.contract import CommandRetry
from perdure.conversations.conversation import DurableConversation
from perdure.copying import copy_store
from perdure.engine.addressing import Address
from perdure.engine.app import App
from perdure.engine.archive import ArchivedEvent, ArchiveRecord, read_archive
from perdure.engine.engine import Engine
from perdure.engine.flow import Flow, Rate
from perdure.engine.joined import Joined
from perdure.engine.notes import Receipt
from perdure.engine.process import Process, on
from perdure.engine.process_log import Log
from perdure.engine.queries import query
from perdure.engine.retention import Retention, Swept
from perdure.engine.retry import Retry
from perdure.engine.run import run
from perdure.engine.searching import Between, Page, StartsWith
from perdure.engine.sources import Source, WebhookEvent
from perdure.engine.steps import NotDone, StepInfo, step_info
from perdure.errors import PerdureError
from perdure.identity import ContentHash, MessageId, ProcessId, ProcessIdentity, RegistryKey, Tag, TenantId
from perdure.store import Store, open_store

if TYPE_CHECKING:
    from perdure.client.client import Client
    from perdure.client.sync import SyncClient
    from perdure.deploying.deploy import deploy
    from perdure.packages.signing import TrustPolicy
    from perdure.worker.context import CommandContext
    from perdure.worker.worker import Worker

__all__ = [
    "Address",
    "App",
    "ArchiveRecord",
    "ArchivedEvent",
    "Between",
    "Blob",
    "Client",
    "Clock",
    "CommandContext",
    "CommandRetry",
    "ContentHash",
    "DurableConversation",
    "Engine",
    "Flow",
    "Joined",
    "Log",
    "MessageId",
    "NotDone",
    "Page",
    "PerdureError",
    "Process",
    "ProcessId",
    "ProcessIdentity",
    "Rate",
    "Receipt",
    "RegistryKey",
    "Retention",
    "Retry",
    "Source",
    "StartsWith",
    "StepInfo",
    "Store",
    "Swept",
    "SyncClient",
    "SystemClock",
    "Tag",
    "TenantId",
    "TrustPolicy",
    "VirtualClock",
    "WebhookEvent",
    "Worker",
    "copy_store",
    "deploy",
    "on",
    "open_store",
    "query",
    "read_archive",
    "run",
    "step_info",
]

# They are imported when they are first asked for: what they need takes as long as all of the rest.
_LATER: Final = {
    "Client": "perdure.client.client",
    "CommandContext": "perdure.worker.context",
    "SyncClient": "perdure.client.sync",
    "TrustPolicy": "perdure.packages.signing",
    "Worker": "perdure.worker.worker",
    "deploy": "perdure.deploying.deploy",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415  # as above

    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value
