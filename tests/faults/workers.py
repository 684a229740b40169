"""Faults in workers, clients, and the command line for them."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

WORKER: Final = "src/perdure/worker"
CLIENT: Final = "src/perdure/client"
CLI: Final = "src/perdure/cli"
HANDLERS: Final = "tests/worker/test_handlers.py"
LEASES: Final = "tests/worker/test_leases.py"
ATTACK: Final = "tests/worker/test_attack.py"
NETWORK: Final = "tests/worker/test_network.py"
CALLS: Final = "tests/client/test_client.py"
TROUBLE: Final = "tests/client/test_trouble.py"
SYNC: Final = "tests/client/test_sync.py"
OPERATOR: Final = "tests/e2e/test_cli_commands.py"

FAULTS: Final = (
    Fault(
        "worker-takes-more-than-it-has-slots",
        f"{WORKER}/worker.py",
        "free = self.max_concurrency - len(self._attempts) - self.threads.left",
        "free = self.max_concurrency - self.threads.left",
        (f"{HANDLERS}::test_c2_at_most_so_many_handlers_are_active",),
    ),
    Fault(
        "worker-forgets-threads-that-go-on",
        f"{WORKER}/worker.py",
        " - len(self._attempts) - self.threads.left",
        " - len(self._attempts)",
        (f"{ATTACK}::test_c2_c5_a_plain_handler_that_goes_on_after_its_deadline_keeps_its_slot_and_is_told",),
    ),
    Fault(
        "worker-asks-for-every-name",
        f"{WORKER}/worker.py",
        "            names=list(self._handlers),\n",
        "",
        (f"{HANDLERS}::test_c4_a_worker_gets_no_command_that_it_has_no_handler_for",),
    ),
    Fault(
        "worker-takes-on-while-it-stops",
        f"{WORKER}/worker.py",
        "        while not self._stopping.is_set():\n            free",
        "        while not self._stopping.is_set() or self._attempts:\n            free",
        (f"{LEASES}::test_c8_what_is_not_done_in_the_drain_time_is_given_back_for_another_at_once",),
        hangs=True,
    ),
    Fault(
        "worker-believes-leases-that-came-late",
        f"{WORKER}/worker.py",
        "since = min(self.connection.clock.now(), asked + limits.COMMAND_WAIT_US)",
        "since = self.connection.clock.now()",
        (f"{ATTACK}::test_leases_that_came_too_late_are_no_handlers",),
    ),
    Fault(
        "worker-does-one-command-twice-at-once",
        f"{WORKER}/worker.py",
        '                other.lose("it came again")\n',
        "                pass\n",
        (f"{ATTACK}::test_c18_a_second_lease_of_a_command_stops_the_handler_of_the_first",),
    ),
    Fault(
        "worker-goes-on-after-its-deadline",
        f"{WORKER}/attempt.py",
        "        if self.deadline is not None and now >= self.deadline:\n",
        "        if False:\n",
        (f"{LEASES}::test_c5_a_handler_is_cancelled_when_its_deadline_passes_and_its_result_does_not_count",),
        hangs=True,
    ),
    Fault(
        "worker-goes-on-after-its-lease",
        f"{WORKER}/attempt.py",
        "        elif now >= self.until - limits.WORKER_MARGIN_US:\n",
        "        elif False:\n",
        (f"{ATTACK}::test_c15_a_renewal_that_is_never_answered_keeps_no_handler_beyond_its_lease",),
        hangs=True,
    ),
    Fault(
        "worker-takes-each-refusal-for-a-lost-lease",
        f"{WORKER}/attempt.py",
        "        except (StaleLease, RejectedError) as error:\n",
        "        except (PerdureError) as error:\n",
        (f"{ATTACK}::test_c16_a_renewal_that_is_refused_for_another_reason_than_the_lease_stops_no_handler",),
    ),
    Fault(
        "worker-tells-the-result-of-a-lost-lease",
        f"{WORKER}/attempt.py",
        "        if self.lost or self.released:\n            return None\n",
        "        if self.released:\n            return None\n",
        (f"{ATTACK}::test_c15_a_renewal_that_is_never_answered_keeps_no_handler_beyond_its_lease",),
    ),
    Fault(
        "worker-does-not-tell-handlers-to-stop",
        f"{WORKER}/attempt.py",
        "            self.context.cancelled.set()\n            self._work.cancel()\n",
        "            self._work.cancel()\n",
        (
            f"{ATTACK}::test_c2_c5_a_plain_handler_that_goes_on_after_its_deadline_keeps_its_slot_and_is_told",
            f"{NETWORK}::test_c8_what_a_worker_gives_back_another_gets_at_once",
        ),
    ),
    Fault(
        "worker-ends-with-a-handler-that-leaves",
        f"{WORKER}/attempt.py",
        "        except BaseException as error:",
        "        except Exception as error:",
        (f"{ATTACK}::test_c3_a_handler_that_leaves_the_program_is_a_failed_attempt_and_the_worker_lives_on",),
        hangs=True,
    ),
    Fault(
        "worker-gives-back-what-is-done",
        f"{WORKER}/attempt.py",
        "        if self._work is not None and self._work.done():\n            return\n",
        "",
        (f"{ATTACK}::test_c8_what_is_done_when_the_drain_time_is_over_is_not_given_back",),
    ),
    Fault(
        "worker-keeps-what-it-cannot-finish",
        f"{WORKER}/attempt.py",
        '        await self._release("the worker stops")\n',
        "",
        (f"{LEASES}::test_c8_what_is_not_done_in_the_drain_time_is_given_back_for_another_at_once",),
    ),
    Fault(
        "worker-tells-an-outcome-once",
        f"{WORKER}/attempt.py",
        "Completed, body=body, once=False, patience=patience)",
        "Completed, body=body, once=False, patience=0)",
        (f"{NETWORK}::test_c16_an_outcome_is_told_until_the_server_takes_it",),
    ),
    Fault(
        "worker-fails-what-it-does-not-know",
        f"{WORKER}/attempt.py",
        ", delay=limits.WORKER_UNKNOWN_US)",
        ")",
        (f"{NETWORK}::test_c4_a_command_of_a_name_that_was_not_asked_for_is_given_back_for_others",),
    ),
    Fault(
        "worker-notes-as-they-are",
        f"{WORKER}/context.py",
        "note=line(note, most=limits.COMMAND_NOTE_MAX)",
        "note=note",
        (f"{ATTACK}::test_a_note_of_any_text_is_told_and_no_handler_is_stopped_for_it",),
        hangs=True,
    ),
    Fault(
        "worker-waits-for-ever-for-a-stop-iteration",
        f"{WORKER}/threads.py",
        "    except StopIteration as error:",
        "    except GeneratorExit as error:",
        (f"{ATTACK}::test_c3_a_handler_that_leaves_the_program_is_a_failed_attempt_and_the_worker_lives_on",),
        hangs=True,
    ),
    Fault(
        "worker-has-few-threads",
        f"{WORKER}/threads.py",
        "ThreadPoolExecutor(most,",
        "ThreadPoolExecutor(min(most, 6),",
        (f"{ATTACK}::test_c2_as_many_plain_handlers_run_at_once_as_the_worker_says",),
    ),
    Fault(
        "client-new-key-for-each-try",
        f"{CLIENT}/connection.py",
        "        request = _Request(method, path, headers, data, query, wait)\n",
        '        request = _Request(method, path, headers, data, query, wait)\n        self._fresh = request.headers.pop("idempotency-key", None)\n',
        (f"{TROUBLE}::test_k1_a_command_whose_answer_was_lost_is_sent_again_and_is_one",),
    ),
    Fault(
        "client-waits-as-long-as-the-server-wants",
        f"{CLIENT}/connection.py",
        " or left <= 0 or refused.wait > left:",
        " or left <= 0:",
        (f"{TROUBLE}::test_a_server_that_wants_more_time_than_there_is_patience_is_not_waited_for",),
    ),
    Fault(
        "client-does-not-wait-as-the-server-wants",
        f"{CLIENT}/connection.py",
        "max(refused.wait, self._varied(pause))",
        "self._varied(pause)",
        (f"{TROUBLE}::test_a_server_that_wants_some_time_gets_it",),
    ),
    Fault(
        "client-follows-redirects-with-its-token",
        f"{CLIENT}/connection.py",
        "allow_redirects=False",
        "allow_redirects=True",
        (f"{TROUBLE}::test_k1_an_answer_that_says_no_is_an_error_of_its_class_at_once",),
        hangs=True,
    ),
    Fault(
        "client-ids-of-dots",
        f"{CLIENT}/connection.py",
        " + request.path, encoded=True)",
        " + request.path)",
        (f"{CALLS}::test_an_id_of_any_text_is_found_again",),
    ),
    Fault(
        "client-keys-without-quotes",
        f"{CLIENT}/connection.py",
        ".replace('\"', '\\\\\"')",
        "",
        (f"{CALLS}::test_a_key_is_any_printable_ascii",),
    ),
    Fault(
        "client-opens-again-after-its-end",
        f"{CLIENT}/connection.py",
        "        if self._closed:\n",
        "        if False:\n",
        (f"{TROUBLE}::test_a_client_is_closed_twice_and_not_used_after_that",),
    ),
    Fault(
        "client-token-is-never-read-again",
        f"{CLIENT}/tokens.py",
        "        return self._text != refused\n",
        "        return False\n",
        (f"{TROUBLE}::test_k2_a_token_file_is_read_once_and_again_after_a_refusal",),
    ),
    Fault(
        "client-answers-without-end",
        f"{CLIENT}/connection.py",
        "        if len(text) > request.most:\n",
        "        if False:\n",
        (f"{TROUBLE}::test_k1_an_answer_without_end_is_refused",),
    ),
    Fault(
        "waiting-client-leaves-others-waiting",
        f"{CLIENT}/sync.py",
        "            each.cancel()\n        await asyncio.gather(*calls, return_exceptions=True)\n",
        "            pass\n",
        (f"{SYNC}::test_who_waits_while_another_thread_closes_it_is_told",),
        hangs=True,
    ),
    Fault(
        "watch-ends-well-whatever-happened",
        f"{CLI}/commands.py",
        '    if status.state != "SUCCEEDED":\n',
        "    if False:\n",
        (f"{OPERATOR}::test_what_is_over_is_watched_to_its_end_and_the_exit_status_says_which",),
    ),
)
