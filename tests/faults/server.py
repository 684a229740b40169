"""Faults in the server and in its tokens."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

SERVER: Final = "src/perdure/server"
TOKENS: Final = "src/perdure/tokens"
WHO: Final = "tests/server/test_authorisation.py"
HELD: Final = "tests/server/test_tokens.py"
ONCE: Final = "tests/server/test_idempotency.py"
BOUNDS: Final = "tests/server/test_limits.py"
STRICT: Final = "tests/server/test_strict.py"
MESSAGES: Final = "tests/server/test_messages.py"
PROCESSES: Final = "tests/server/test_processes.py"
PROGRAM: Final = "tests/server/test_program.py"

FAULTS: Final = (
    # --- tokens --------------------------------------------------------------------------------------
    Fault("token-of-any-secret", f"{TOKENS}/registry.py", "if row is None or not same or", "if row is None or", (WHO,)),
    Fault("token-outlives-its-end", f"{TOKENS}/registry.py", "row.expires_at <= now", "row.expires_at < now", (WHO,)),
    Fault("token-outlives-its-revocation", f"{TOKENS}/registry.py", " or row.revoked_at is not None or", " or", (HELD,)),
    Fault("token-is-revoked-for-good-only-once", f"{TOKENS}/writes.py", "            return False\n", "            return True\n", (HELD,)),
    Fault("capability-implies-another", f"{TOKENS}/contract.py", "in self.grants\n", "in self.grants or bool(self.grants)\n", (WHO,)),
    Fault(
        "foreign-tenant-is-told-that-it-may-not",
        f"{SERVER}/doorkeeper.py",
        "raise (route.absent or RouteNotFound)(nothing_here())",
        "raise NotAllowed(nothing_here())",
        (WHO,),
    ),
    Fault(
        "absent-thing-looks-unlike-a-foreign-one",
        f"{SERVER}/application.py",
        "raise call.route.absent(nothing_here()) from error",
        "raise",
        (f"{WHO}::test_another_tenants_thing_looks_like_one_that_is_not_there",),
    ),
    Fault("tenants-metrics", f"{SERVER}/doorkeeper.py", 'if tenant is None and not principal.reaches("*")', "if False", (WHO,)),
    Fault("attempts-are-not-counted", f"{SERVER}/doorkeeper.py", "            self._attempts.failed(peer)\n", "", (WHO,)),
    Fault(
        "attempts-lock-out-who-is-known",
        f"{SERVER}/doorkeeper.py",
        "        if who not in self._known:\n",
        "        if who:\n",
        (WHO,),
    ),
    Fault("dev-is-led-anywhere", f"{SERVER}/doorkeeper.py", "not in LOOPBACK_NAMES:", "in ():", (WHO,)),
    Fault(
        "dev-beyond-loopback",
        f"{SERVER}/serving.py",
        "if dev and not is_loopback(host):",
        "if not host:",
        (f"{WHO}::test_with_dev_only_loopback_is_served",),
    ),
    Fault("key-of-any-body", f"{SERVER}/idempotency.py", "path.encode(), query, body", "path.encode(), query", (ONCE,)),
    Fault("key-of-any-query", f"{SERVER}/idempotency.py", "path.encode(), query, body", "path.encode(), body", (ONCE,)),
    Fault("key-of-any-client", f"{SERVER}/idempotency.py", 'f"{PASSING}{call.principal.name}"', 'f"{PASSING}client"', (ONCE,)),
    Fault("key-keeps-a-failure", f"{SERVER}/idempotency.py", "made.status >= _SERVER_FAULT or error.retryable", "False", (ONCE,)),
    Fault(
        "key-keeps-no-refusal",
        f"{SERVER}/idempotency.py",
        "made.status >= _SERVER_FAULT or error.retryable",
        "True",
        (f"{ONCE}::test_a_refusal_that_is_final_is_kept",),
    ),
    Fault(
        "late-answer-of-its-own",
        f"{SERVER}/idempotency.py",
        "            return _again(sealed)\n        return made",
        "        return made",
        (ONCE,),
    ),
    Fault(
        "redriven-before-the-crash-is-refused", f"{SERVER}/messages.py", "is None or not await call.again()", "is not None or True", (ONCE,)
    ),
    Fault(
        "resumed-before-the-crash-is-refused",
        f"{SERVER}/processes.py",
        "        if not await call.again():\n",
        "        if call:\n",
        (ONCE,),
    ),
    Fault(
        "old-answers-are-not-swept",
        f"{SERVER}/serving.py",
        "await operations.sweep(clock.now())",
        "clock.now()",
        (f"{ONCE}::test_an_answer_is_kept_for_a_day",),
        hangs=True,
    ),
    # --- what comes in ---------------------------------------------------------------------------------
    Fault("body-is-not-cut", f"{SERVER}/intake.py", "if len(data) > limits.HTTP_BODY_MAX:", "if False:", (BOUNDS,)),
    Fault(
        "announced-body-is-read",
        f"{SERVER}/intake.py",
        "and int(announced) > limits.HTTP_BODY_MAX",
        "and False",
        (f"{BOUNDS}::test_a_body_that_says_that_it_is_too_large_is_refused_before_it_comes",),
        hangs=True,
    ),
    Fault("head-is-not-cut", f"{SERVER}/wire.py", "        if self._sizes > limits.HTTP_HEAD_MAX:", "        if False:", (BOUNDS,)),
    Fault(
        "head-never-ends",
        f"{SERVER}/wire.py",
        "if self._in_head and self._head > limits.HTTP_HEAD_MAX and",
        "if False and",
        (f"{BOUNDS}::test_a_head_that_is_too_large_is_refused",),
        hangs=True,
    ),
    Fault(
        "second-head-has-time",
        f"{SERVER}/wire.py",
        "            if self._alarm is None and",
        "            if False and",
        (f"{BOUNDS}::test_a_second_head_that_does_not_come_to_its_end_is_refused",),
        hangs=True,
    ),
    Fault("bytes-that-are-no-text", f"{SERVER}/intake.py", "        data.decode()  #", "        # data.decode()  #", (STRICT,)),
    Fault("query-is-given-twice", f"{SERVER}/intake.py", "        elif name in found:\n", "        elif not name:\n", (STRICT,)),
    Fault("failure-is-logged-with-its-text", f"{SERVER}/application.py", "type(error).__name__, where)", "repr(error), where)", (STRICT,)),
    Fault(
        "failure-is-told",
        f"{SERVER}/application.py",
        'InternalError("it is no fault of the request")',
        "PerdureError(repr(error))",
        (STRICT,),
    ),
    Fault("store-tells-its-text", f"{SERVER}/problems.py", "if hidden else str(error)", "if not error else str(error)", (STRICT,)),
    Fault(
        "encoded-slash-ends-a-part",
        f"{SERVER}/application.py",
        '        scope["path"] = scope["raw_path"].decode("ascii")\n',
        "",
        (MESSAGES,),
    ),
    Fault("trace-is-dropped", f"{SERVER}/messages.py", "intake.trace(call.headers) or ", "", (MESSAGES,)),
    Fault("trace-is-not-looked-at", "src/perdure/headers.py", "or not _TRACE_PARENT.fullmatch(parent)", "or not parent", (MESSAGES,)),
    Fault(
        "payload-is-not-looked-at",
        "src/perdure/engine/encoded.py",
        "return encoded_message(handler.decode(payload))",
        "return payload",
        (f"{MESSAGES}::test_a_payload_to_an_address_is_read_by_its_type_too",),
    ),
    # --- waiting ---------------------------------------------------------------------------------------
    Fault(
        "stream-never-ends",
        f"{SERVER}/processes.py",
        "page.next is None and page.status in OVER",
        "False",
        (f"{PROCESSES}::test_events_come_as_they_happen_until_the_process_is_over",),
        hangs=True,
    ),
    Fault("stream-begins-anew", f"{SERVER}/processes.py", "    return int(last)\n", "    return None\n", (PROCESSES,)),
    Fault(
        "who-left-is-waited-for",
        f"{SERVER}/waiting.py",
        ", asyncio.ensure_future(call.gone())]",
        "]",
        (f"{BOUNDS}::test_a_client_that_leaves_while_it_waits_leaves_nothing_behind",),
        hangs=True,
    ),
    Fault(
        "long-polls-hold-up-the-stop",
        f"{SERVER}/waiting.py",
        "[asyncio.ensure_future(call.stopping.wait()), ",
        "[",
        (f"{PROGRAM}::test_a_server_that_stops_ends_long_polls_at_once_and_finishes_what_is_under_way",),
        hangs=True,
    ),
)
