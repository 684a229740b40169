"""Policies and requests as they are stored: pure."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from perdure import limits
from perdure.blob import Blob
from perdure.clock import SECOND
from perdure.commands.arguments import body_of, body_row, digest_of, ending_of
from perdure.commands.contract import Body, CommandError, CommandRetry, Failed, Stopped, Succeeded
from perdure.commands.states import CommandState

WAITS = st.floats(0, limits.COMMAND_WAIT_MAX_SECONDS)
POLICIES = st.builds(
    CommandRetry,
    max_attempts=st.integers(1, limits.RETRY_ATTEMPTS_MAX),
    initial=WAITS,
    factor=st.floats(1, limits.COMMAND_FACTOR_MAX),
    maximum=WAITS,
    jitter=st.floats(0, 1),
    give_up_on=st.lists(st.sampled_from(["a", "b"])).map(tuple),
)


@given(POLICIES, st.integers(1, limits.RETRY_ATTEMPTS_MAX), st.floats(0, 1))
def test_a_wait_is_within_its_policy_however_many_failures_there_were(policy: CommandRetry, failures: int, chance: float) -> None:
    full, found = policy.delay(failures, 0.0), policy.delay(failures, chance)

    assert 0 <= found <= full <= round(policy.maximum * SECOND)
    assert found >= full * (1 - policy.jitter) - 1
    assert failures == 1 or full >= policy.delay(failures - 1, 0.0)


@given(POLICIES)
def test_a_policy_is_the_same_after_it_was_stored(policy: CommandRetry) -> None:
    assert msgspec.json.decode(msgspec.json.encode(policy), type=CommandRetry) == policy


def test_waits_grow_by_their_factor_up_to_the_longest() -> None:
    policy = CommandRetry(initial=0.5, factor=4.0, maximum=30.0, jitter=0.5)

    assert [policy.delay(failures, 0.0) for failures in range(1, 6)] == [500_000, 2_000_000, 8_000_000, 30_000_000, 30_000_000]
    assert policy.delay(2, 1.0) == 1_000_000


def test_whose_first_wait_is_none_never_waits() -> None:
    policy = CommandRetry(initial=0, factor=limits.COMMAND_FACTOR_MAX)

    assert {policy.delay(failures, 0.0) for failures in range(1, limits.RETRY_ATTEMPTS_MAX)} == {0}


BODIES: list[Body | None] = [None, b"null", b"1", b'"json 1"', b"[1]", Blob(sha256="a" * 64, size=1), Blob(sha256="b" * 64, size=1)]


def test_requests_that_differ_in_their_params_have_different_digests() -> None:
    rows = [None if body is None else body_row(body, what="params", limit=100) for body in BODIES]
    digests = [digest_of(row, size) for row in rows for size in ([None, 5, 6] if row is None else [None])]

    assert len(set(digests)) == len(digests)
    assert {len(digest) for digest in digests} == {32}
    assert [digest_of(row, None) for row in rows] == [digest_of(row, None) for row in rows]


def test_a_body_is_the_same_after_it_was_stored() -> None:
    for body in BODIES:
        row = None if body is None else body_row(body, what="params", limit=100)
        assert body_of(row) == body
        assert row is None or type(row.sha256) is str, "any encoder takes it"


def test_how_an_attempt_ended_has_a_state_and_its_reason() -> None:
    assert ending_of(Succeeded(result=b"1")).state == CommandState.SUCCEEDED
    failed = ending_of(Failed(code="x", details=b"[1]", retryable=True))
    assert (failed.state, failed.retryable) == (CommandState.FAILED, True)
    assert failed.error == CommandError(code="x", details=msgspec.Raw(b"[1]"))
    assert ending_of(Stopped(message="no")).error == CommandError(code="command-cancelled", message="no")
