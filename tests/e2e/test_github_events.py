"""From a webhook to a message: total, stable, and by the rules of the example's README."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.github_bot.events import (
    AccountEvent,
    CommitEvent,
    Event,
    IssueEvent,
    PullRequestEvent,
    RepositoryEvent,
    UnclaimedEvent,
    delivery_id,
    routed,
)
from examples.github_bot.recording import WEBHOOKS, Webhook, disturbed, read, repeated
from perdure import RegistryKey, TenantId

APP = {"full_name": "acme/app", "owner": {"login": "acme"}}
SHA = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"

FIELDS = ["repository", "owner", "login", "full_name", "pull_request", "issue", "number", "head", "sha", "after", "check_run", "head_sha"]
FIELDS += ["organization", "sender", "installation", "account", "action", "updated_at", "title"]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["acme", "acme/app", SHA, "2019-05-15T15:20:33Z"])
)
PAYLOADS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4), max_leaves=5
)


@given(
    st.sampled_from(["push", "status", "check_run", "issues", "made_up"]), st.dictionaries(st.sampled_from(FIELDS), PAYLOADS, max_size=6)
)
@settings(deadline=None)
def test_every_payload_has_a_message_with_a_tenant_and_a_subject(name: str, payload: dict[str, Any]) -> None:
    tenant, event = routed(name, payload)

    assert TenantId(tenant) == tenant
    assert RegistryKey(event.subject) == event.subject
    assert event.delivery == delivery_id(name, payload)
    assert event.payload == payload


RULES: list[tuple[str, dict[str, Any], str, type[Event], str]] = [
    ("pull_request", {"repository": APP, "pull_request": {"number": 2}}, "acme", PullRequestEvent, "pull-request:acme/app#2"),
    ("issue_comment", {"repository": APP, "issue": {"number": 2, "pull_request": {}}}, "acme", PullRequestEvent, "pull-request:acme/app#2"),
    ("issue_comment", {"repository": APP, "issue": {"number": 2}}, "acme", IssueEvent, "issue:acme/app#2"),
    ("status", {"repository": APP, "sha": SHA}, "acme", CommitEvent, f"commit:{SHA}"),
    ("workflow_run", {"repository": APP, "workflow_run": {"head_sha": SHA}}, "acme", CommitEvent, f"commit:{SHA}"),
    ("push", {"repository": APP, "after": SHA}, "acme", CommitEvent, f"commit:{SHA}"),
    ("push", {"repository": APP, "after": "0" * 40}, "acme", RepositoryEvent, "repository:acme/app"),
    ("star", {"repository": APP, "sender": {"login": "who"}}, "acme", RepositoryEvent, "repository:acme/app"),
    ("star", {"repository": {"full_name": "acme/app"}}, "acme", RepositoryEvent, "repository:acme/app"),
    ("team", {"organization": {"login": "acme"}, "sender": {"login": "who"}}, "acme", AccountEvent, "account:acme"),
    ("installation", {"installation": {"account": {"login": "acme"}}, "sender": {"login": "who"}}, "acme", AccountEvent, "account:acme"),
    ("team", {"organization": {"login": "ac me"}}, TenantId.from_party_id("ac me"), AccountEvent, "account:ac me"),
    ("security_advisory", {"action": "published"}, "github", UnclaimedEvent, "unclaimed:security_advisory"),
]


@pytest.mark.parametrize(("name", "payload", "tenant", "kind", "subject"), RULES)
def test_a_webhook_goes_to_what_it_is_about(name: str, payload: dict[str, Any], tenant: str, kind: type[Event], subject: str) -> None:
    found = routed(name, payload)

    assert (found.tenant, type(found.event), found.event.subject) == (tenant, kind, subject)


def test_the_same_content_has_the_same_id_in_any_order_of_its_members() -> None:
    assert delivery_id("star", {"a": 1, "b": {"c": 2, "d": 3}}) == delivery_id("star", {"b": {"d": 3, "c": 2}, "a": 1})
    assert delivery_id("star", {"a": 1}) != delivery_id("star", {"a": 2})
    assert delivery_id("star", {"a": 1}) != delivery_id("fork", {"a": 1})


@given(st.integers(0, 20), st.floats(0, 1), st.none() | st.integers(0, 5))
@settings(deadline=None)
def test_a_disturbed_recording_holds_every_webhook_and_so_many_again(count: int, duplicates: float, shuffle: int | None) -> None:
    webhooks = [Webhook("star", {"number": number}) for number in range(count)]

    arriving = disturbed(webhooks, duplicates=duplicates, shuffle=shuffle)

    assert len(arriving) == count + round(count * duplicates)
    assert {hook.payload["number"] for hook in arriving} == set(range(count))
    assert arriving == disturbed(webhooks, duplicates=duplicates, shuffle=shuffle)


def test_each_repetition_has_webhooks_and_subjects_of_its_own() -> None:
    webhooks = read(WEBHOOKS)
    once, twice = [routed(*hook) for hook in webhooks], [routed(*hook) for hook in repeated(webhooks, 2)]

    assert twice[: len(once)] == once
    again = twice[len(once) :]
    assert {event.delivery for _, event in once}.isdisjoint(event.delivery for _, event in again)
    subjects = {(tenant, event.subject) for tenant, event in once if not isinstance(event, UnclaimedEvent)}
    assert subjects.isdisjoint((tenant, event.subject) for tenant, event in again)
