"""Faults in what is said of requests, in keys across servers, and in commands over HTTP."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

SERVER: Final = "src/perdure/server"
STRICT: Final = "tests/server/test_strict.py"
KEYS: Final = "tests/server/test_idempotency.py"
PAIR: Final = "tests/server/test_two_servers.py"
FLOWS: Final = "tests/server/test_commands.py"
REFUSED: Final = "tests/server/test_commands_refused.py"
LEAVING: Final = "tests/server/test_commands_leaving.py"
UPKEEP: Final = "tests/contracts/test_operation_store_upkeep.py"
GENERATED: Final = "tests/server/test_generated.py"

FAULTS: Final[tuple[Fault, ...]] = (
    # --- what the document says ---------------------------------------------------------------------------
    Fault(
        "queries-read-what-json-does-not-write",
        f"{SERVER}/intake.py",
        "if kind in _WRITTEN and not _WRITTEN[kind].fullmatch(value):",
        "if False:",
        (f"{STRICT}::test_parts_of_a_path_and_queries_that_break_a_rule_are_refused",),
    ),
    Fault(
        "some-methods-are-not-known",
        f"{SERVER}/application.py",
        "methods=[], include",
        "methods=[*_METHODS], include",
        (f"{STRICT}::test_another_method_is_refused_with_those_that_there_are",),
    ),
    Fault(
        "the-document-forgets-the-rules-of-text",
        "src/perdure/protocol/text.py",
        '{"minLength": least, "maxLength": limit, "pattern": pattern, "x-max-bytes": limit}',
        '{"minLength": least}',
        (GENERATED,),
    ),
    Fault(
        "the-document-forgets-the-rules-of-keys",
        f"{SERVER}/openapi.py",
        '        key = {"type": "string", "pattern": f"^([!#-~][!-~]{{0,{most - 1}}}|{quoted})$"}\n',
        '        key = {"type": "string"}\n',
        (GENERATED,),
    ),
    # --- keys -----------------------------------------------------------------------------------------------
    Fault(
        "keys-are-a-server's-own",
        f"{SERVER}/idempotency.py",
        'scope=f"{PASSING}{call.principal.name}"',
        'scope=f"{PASSING}{call.principal.name} {id(self)}"',
        (f"{PAIR}::test_a_thousand_messages_at_two_servers_are_one_effect_and_one_answer",),
    ),
    Fault(
        "keys-are-known-for-ever",
        f"{SERVER}/serving.py",
        "            await operations.forget(clock.now())\n",
        "",
        (f"{KEYS}::test_a_key_is_as_new_long_after_its_answer",),
        hangs=True,
    ),
    Fault(
        "everything-is-forgotten",
        "src/perdure/operations/writes.py",
        "if str(key.parts[1]).startswith(PASSING) and ",
        "if ",
        (f"{UPKEEP}::test_a_key_over_http_is_forgotten_some_time_after_its_eviction_and_nothing_else_is",),
    ),
    Fault(
        "forgotten-before-its-time",
        "src/perdure/operations/writes.py",
        "limits.READ_PAGE, upto=(self.now,))",
        "limits.READ_PAGE)",
        (f"{UPKEEP}::test_a_key_over_http_is_forgotten_some_time_after_its_eviction_and_nothing_else_is",),
    ),
    Fault(
        "the-first-page-is-forgotten",
        "src/perdure/operations/store.py",
        "        while found == limits.READ_PAGE:\n            found = await self._access.writer.run(Forget",
        "        while False:\n            found = await self._access.writer.run(Forget",
        (f"{UPKEEP}::test_keys_are_forgotten_page_by_page",),
    ),
    # --- commands -------------------------------------------------------------------------------------------
    Fault(
        "names-and-keys-of-clients-run-together",
        f"{SERVER}/commands.py",
        'f"http {len(name)} {name} {call.key}"',
        'f"http {name} {call.key}"',
        (f"{FLOWS}::test_clients_whose_names_and_keys_run_together_send_commands_of_their_own",),
    ),
    Fault(
        "a-key-does-not-make-the-command-one",
        f"{SERVER}/commands.py",
        "        idempotency_key=_key(call),\n",
        "",
        (f"{FLOWS}::test_a_command_that_was_made_before_the_server_died_is_not_made_twice",),
    ),
    Fault(
        "what-was-taken-meanwhile-is-kept",
        "src/perdure/commands/registry.py",
        "                await self._give_back(take, taking.result()[1])\n",
        "                pass\n",
        (LEAVING,),
        hangs=True,
    ),
    Fault(
        "who-has-just-left-keeps-its-leases",
        f"{SERVER}/commands.py",
        "    if leases and await has_left(call):",
        "    if False:",
        (f"{LEAVING}::test_what_is_given_out_to_a_worker_that_has_just_left_goes_back_at_once",),
    ),
    Fault(
        "the-release-of-a-dead-server-is-refused",
        f"{SERVER}/commands.py",
        "        if not await call.again():\n            raise\n        # It has no lease",
        "        if call:\n            raise\n        # It has no lease",
        (f"{FLOWS}::test_what_a_worker_said_before_the_server_died_is_not_refused_when_it_is_said_again",),
    ),
    Fault(
        "every-late-release-is-taken",
        f"{SERVER}/commands.py",
        "        if not await call.again():\n            raise\n        # It has no lease",
        "        pass\n        # It has no lease",
        (f"{FLOWS}::test_who_is_late_is_told_and_does_not_count",),
    ),
    Fault(
        "workers-reach-every-target",
        f"{SERVER}/commands.py",
        'if found is None or not call.principal.may(WORK, deployment=found.deployment_id, target=found.target or ""):',
        "if found is None:",
        (f"{REFUSED}::test_the_command_of_another_target_or_tenant_looks_like_one_that_is_not_there",),
    ),
    Fault(
        "workers-lease-for-every-target",
        f"{SERVER}/commands.py",
        "    if not call.principal.may(WORK, deployment=deployment, target=target):",
        "    if not call.principal.works(deployment):",
        (f"{REFUSED}::test_work_is_given_for_one_target_or_for_what_has_none",),
    ),
    Fault(
        "the-trace-is-lost",
        f"{SERVER}/commands.py",
        "        traceparent=traceparent_of(call.headers),\n",
        "",
        (f"{FLOWS}::test_the_trace_of_the_sender_comes_to_the_worker",),
    ),
    Fault(
        "a-deployment-is-every-target",
        "src/perdure/tokens/contract.py",
        "        return Grant(capability, deployment, target) in self.grants\n",
        "        return Grant(capability, deployment, target) in self.grants or Grant(capability, deployment) in self.grants\n",
        ("tests/server/test_tokens.py::test_work_is_for_one_target_or_for_what_has_none",),
    ),
)
