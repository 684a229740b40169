"""From a webhook as GitHub sends it to a message: what it is about, whose it is, and when that was."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from perdure import RegistryKey, TenantId
from perdure.errors import InvalidIdentifier

Payload = dict[str, Any]

DELIVERIES: Final = uuid.UUID("b0a1d0c4-6a3e-5b0e-9a57-5a1d2f0c7e11")
GITHUB: Final = "github"
_LARGE: Final = 2**63
_NO_COMMIT: Final = "0" * 40
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook.

    `delivery` names it, `name` is GitHub's event type, `subject` what it is about, `at` when that was (UTC, or empty);
    `payload` is everything that GitHub said.
    """

    delivery: str
    name: str
    action: str
    subject: str
    at: str
    payload: Payload

    @property
    def what(self) -> str:
        """The event type and its action."""
        return f"{self.name}.{self.action}" if self.action else self.name


class PullRequestEvent(Event, frozen=True, kw_only=True, tag="pull-request-event"):
    """About a pull request, whose head is the commit `head`, if it says so."""

    repository: str
    head: str


class IssueEvent(Event, frozen=True, kw_only=True, tag="issue-event"):
    """About an issue."""

    repository: str


class CommitEvent(Event, frozen=True, kw_only=True, tag="commit-event"):
    """About a commit: for every pull request whose head it is."""

    sha: str


class RepositoryEvent(Event, frozen=True, kw_only=True, tag="repository-event"):
    """About a repository, and about no pull request, issue or commit of it that has a process."""


class AccountEvent(Event, frozen=True, kw_only=True, tag="account-event"):
    """About an organisation or a user."""


class UnclaimedEvent(Event, frozen=True, kw_only=True, tag="unclaimed-event"):
    """About nothing that has a process: it goes to the dead letters, from where a later version of the bot can take it."""


class Delivery(NamedTuple):
    """A webhook on its way to the engine."""

    tenant: str
    event: Event


def delivery_id(name: str, payload: Payload) -> str:
    """Return the id of a webhook: the same content has the same id, so a redelivery is the same message."""
    return str(uuid.uuid5(DELIVERIES, _encode([name, payload]).decode()))


def routed(name: str, payload: Payload) -> Delivery:
    """Return the message that a webhook is, and its tenant. Every payload has one."""
    tenant = tenant_of(_owner(payload))
    common: dict[str, Any] = {"delivery": delivery_id(name, payload), "name": name, "action": text(payload, "action"), "payload": payload}
    repository = text(payload, "repository", "full_name")
    if event := _of_repository(name, payload, repository, common) if repository else None:
        return Delivery(tenant, event)
    account = _account(payload)
    if account and _nameable(subject := f"account:{account}"):
        return Delivery(tenant, AccountEvent(subject=subject, at="", **common))
    return Delivery(tenant, UnclaimedEvent(subject=f"unclaimed:{name}", at="", **common))


def by_tenant(deliveries: Iterable[Delivery]) -> dict[str, dict[str, str]]:
    """Return event types by delivery id, by tenant."""
    found: dict[str, dict[str, str]] = {}
    for tenant, event in deliveries:
        found.setdefault(tenant, {})[event.delivery] = event.name
    return found


def tenant_of(login: str) -> str:
    """Return the tenant of an account: its login, which is one by itself except in rare cases."""
    try:
        return str(TenantId(login))
    except InvalidIdentifier:
        return str(TenantId.from_party_id(login))


def _of_repository(name: str, payload: Payload, repository: str, common: Mapping[str, Any]) -> Event | None:
    key = f"repository:{repository}"
    pull_request, issue = part(payload, "pull_request"), part(payload, "issue")
    snapshot = pull_request or issue
    number, sha = _number(snapshot), _commit(name, payload)
    event: Event
    if sha:
        event = CommitEvent(subject=f"commit:{sha}", at=_instant(part(payload, name) or payload), sha=sha, **common)
    elif number and (pull_request or "pull_request" in issue):
        head, subject = text(pull_request, "head", "sha"), f"pull-request:{repository}#{number}"
        head = head if _nameable(f"commit:{head}") else ""
        event = PullRequestEvent(subject=subject, at=_instant(snapshot), repository=key, head=head, **common)
    elif number:
        event = IssueEvent(subject=f"issue:{repository}#{number}", at=_instant(snapshot), repository=key, **common)
    else:
        event = RepositoryEvent(subject=key, at=_instant(part(payload, "repository")), **common)
    return event if _nameable(event.subject) else None


def _number(snapshot: Payload) -> str:
    number = snapshot.get("number")
    return str(number) if type(number) is int and 0 < number < _LARGE else ""


def _commit(name: str, payload: Payload) -> str:
    """Return the commit that an event of the continuous integration is about; a push that deletes is about none."""
    match name:
        case "status":
            return text(payload, "sha")
        case "push":
            sha = text(payload, "after")
            return "" if sha == _NO_COMMIT else sha
        case "check_run" | "check_suite" | "workflow_run" | "workflow_job":
            return text(payload, name, "head_sha")
        case _:
            return ""


def _owner(payload: Payload) -> str:
    owner = text(payload, "repository", "owner", "login") or text(payload, "repository", "full_name").partition("/")[0]
    return owner or _account(payload) or GITHUB


def _account(payload: Payload) -> str:
    paths = (
        ("organization", "login"),
        ("installation", "account", "login"),
        ("marketplace_purchase", "account", "login"),
        ("sponsorship", "sponsorable", "login"),
        ("sender", "login"),
    )
    return next((login for path in paths if (login := text(payload, *path))), "")


def _instant(about: Payload) -> str:
    """Return when that was, in one form, so that later is greater; empty when it does not say."""
    for field in ("updated_at", "completed_at", "started_at", "created_at"):
        try:
            found = datetime.fromisoformat(text(about, field))
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
        except (ValueError, OverflowError):
            continue
    return ""


def _nameable(subject: str) -> bool:
    try:
        RegistryKey(subject)
    except InvalidIdentifier:
        return False
    return True


def part(payload: Payload, *path: str) -> Payload:
    """Return the object at a path, empty if there is none: not every payload is what GitHub's documents say."""
    value: Any = payload
    for field in path:
        value = value.get(field) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def text(payload: Payload, *path: str) -> str:
    """Return the text at a path, empty if there is none."""
    value = part(payload, *path[:-1]).get(path[-1])
    return value if isinstance(value, str) else ""
