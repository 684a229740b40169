"""Durable, message-driven processes for Python, on your own database."""

from perdure.clock import Clock, SystemClock, VirtualClock
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

__all__ = [
    "Address",
    "App",
    "ArchiveRecord",
    "ArchivedEvent",
    "Between",
    "Clock",
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
    "SystemClock",
    "Tag",
    "TenantId",
    "VirtualClock",
    "WebhookEvent",
    "copy_store",
    "on",
    "open_store",
    "query",
    "read_archive",
    "run",
    "step_info",
]
