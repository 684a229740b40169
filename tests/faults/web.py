"""Faults in signatures, sources of webhooks, CloudEvents, and what is sent."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure"
STANDARD: Final = "tests/webhooks/test_standard.py"
SCHEMES: Final = "tests/webhooks/test_schemes.py"
SOURCES: Final = "tests/webhooks/test_sources.py"
EVENTS: Final = "tests/cloudevents/test_http.py"
SENDER: Final = "tests/sending/test_sender.py"
TARGETS: Final = "tests/sending/test_targets.py"
OUTCOMES: Final = "tests/sending/test_outcomes.py"
SERVER: Final = f"{HERE}/server"
OVER_HTTP: Final = "tests/server/test_webhooks.py"
AS_MESSAGES: Final = "tests/server/test_cloudevents.py"
BOT: Final = "tests/e2e/test_github_server.py"

FAULTS: Final = (
    Fault(
        "webhook-of-any-age",
        f"{HERE}/webhooks/schemes.py",
        "    if sent_at < now - limits.WEBHOOK_TOLERANCE_US:\n",
        "    if False:\n",
        (STANDARD, SCHEMES),
    ),
    Fault(
        "webhook-from-the-future",
        f"{HERE}/webhooks/schemes.py",
        "    if sent_at > now + limits.WEBHOOK_TOLERANCE_US:\n",
        "    if False:\n",
        (STANDARD, SCHEMES),
    ),
    Fault(
        "webhook-time-not-signed",
        f"{HERE}/webhooks/schemes.py",
        'hmac.digest(key, times[0].encode() + b"." + body, hashlib.sha256)',
        "hmac.digest(key, body, hashlib.sha256)",
        (SCHEMES,),
    ),
    Fault(
        "webhook-any-signature-fits",
        f"{HERE}/webhooks/schemes.py",
        "    if not any(found):\n",
        "    if not found:\n",
        (STANDARD, SCHEMES),
    ),
    Fault(
        "webhook-only-the-first-secret",
        f"{HERE}/webhooks/secrets.py",
        "        return tuple(secret.encode() for secret in self.texts())\n",
        "        return (self.texts()[0].encode(),)\n",
        (SCHEMES,),
    ),
    Fault(
        "webhook-header-given-twice",
        f"{HERE}/webhooks/schemes.py",
        "    if headers.times(name) != 1:\n",
        "    if False:\n",
        (f"{STANDARD}::test_a_header_that_is_given_twice_is_malformed",),
    ),
    Fault(
        "webhook-secret-is-shown",
        f"{HERE}/webhooks/secrets.py",
        '        return "Secrets(…)" if',
        "        return str(self._given) if",
        (STANDARD, SOURCES),
    ),
    Fault(
        "webhook-rule-tells-the-payload",
        f"{HERE}/engine/sources.py",
        "            kind = type(error).__name__\n",
        "            kind = repr(error)\n",
        (SOURCES,),
    ),
    Fault(
        "webhook-waits-for-ever",
        f"{HERE}/engine/sources.py",
        "            lasting=lasting,\n",
        "            lasting=None,\n",
        (f"{SOURCES}::test_a_source_says_how_long_its_messages_may_wait",),
    ),
    Fault(
        "webhook-of-any-tenant",
        f"{SERVER}/webhooks.py",
        "        tenant=call.tenant,\n",
        '        tenant="acme",\n',
        (f"{OVER_HTTP}::test_tenants_and_sources_are_apart",),
    ),
    Fault(
        "webhook-of-any-source",
        f"{SERVER}/webhooks.py",
        "        source=read.source,\n        tenant",
        '        source="",\n        tenant',
        (OVER_HTTP,),
    ),
    Fault(
        "webhook-headers-joined",
        f"{SERVER}/webhooks.py",
        "Headers(list(call.headers.items()))",
        "Headers(dict(call.headers))",
        (f"{OVER_HTTP}::test_a_header_of_the_signature_that_is_given_twice_is_refused",),
    ),
    Fault(
        "webhook-goes-where-it-likes",
        f"{SERVER}/webhooks.py",
        "        to=read.to,\n",
        "        to=None,\n",
        (f"{OVER_HTTP}::test_it_goes_where_its_source_says_and_waits_there_as_long",),
    ),
    Fault(
        "webhook-secret-is-the-senders-fault",
        f"{SERVER}/problems.py",
        "    (errors.WebhookSecretInvalid, _SERVER_FAULT),",
        "    (errors.WebhookSecretInvalid, 422),",
        (f"{OVER_HTTP}::test_a_secret_of_ours_that_is_not_set_is_a_failure_of_the_server",),
    ),
    Fault(
        "webhook-keeps-answers-for-anybody",
        f"{SERVER}/route.py",
        'self.method == "POST" and not self.signed',
        'self.method == "POST"',
        (f"{OVER_HTTP}::test_an_idempotency_key_keeps_nothing_of_who_is_not_known",),
    ),
    Fault(
        "wrong-signatures-are-not-counted",
        f"{SERVER}/doorkeeper.py",
        "            self._signatures.failed(network)\n",
        "",
        (OVER_HTTP,),
    ),
    Fault(
        "wrong-signatures-lock-out-who-is-known",
        f"{SERVER}/doorkeeper.py",
        "        self._signatures.passed(who)\n",
        "",
        (OVER_HTTP,),
    ),
    Fault(
        "wrong-signatures-lock-out-tokens",
        f"{SERVER}/doorkeeper.py",
        "        self._signatures = Attempts(clock)\n",
        "        self._signatures = self._attempts\n",
        (OVER_HTTP,),
    ),
    Fault(
        "cloud-event-of-any-content-type",
        f"{SERVER}/events.py",
        "    if event.data is not None and not is_json(event.datacontenttype):\n",
        "    if False:\n",
        (AS_MESSAGES,),
    ),
    Fault(
        "cloud-event-without-its-source",
        f"{SERVER}/events.py",
        "        source=event.source,\n",
        '        source="",\n',
        (AS_MESSAGES,),
    ),
    Fault(
        "cloud-event-goes-where-the-handlers-say",
        f"{SERVER}/events.py",
        "        to=_to(event),\n",
        "        to=None,\n",
        (AS_MESSAGES,),
    ),
    Fault(
        "cloud-event-says-true-as-python-does",
        f"{SERVER}/events.py",
        " if isinstance(value, bool) else str(value)",
        ' if value == "" else str(value)',
        (AS_MESSAGES,),
    ),
    Fault(
        "cloud-event-trace-before-the-requests-own",
        f"{SERVER}/messages.py",
        "intake.trace(call.headers) or intake.trace(trace_of(more))",
        "intake.trace(trace_of(more)) or intake.trace(call.headers)",
        (AS_MESSAGES,),
    ),
    Fault(
        "cloud-events-alike-but-for-their-headers",
        f"{SERVER}/intake.py",
        " if route.events and is_event(headers) else data\n",
        " if False else data\n",
        (f"{AS_MESSAGES}::test_an_idempotency_key_tells_events_apart_by_their_headers",),
    ),
    Fault(
        "bot-believes-the-id-that-nobody-signed",
        "examples/github_bot/server.py",
        "    return delivery_id(webhook.kind, webhook.data)\n",
        "    return webhook.id\n",
        (f"{BOT}::test_a_server_that_was_killed_comes_to_the_same_end_as_an_undisturbed_job",),
    ),
    Fault(
        "cloud-event-header-decoded-twice",
        f"{HERE}/cloudevents/http.py",
        "return _ENCODED.sub(lambda match: bytes.fromhex(match[1].decode()), value.encode()).decode()",
        "return _ENCODED.sub(lambda match: bytes.fromhex(match[1].decode()), _ENCODED.sub(lambda match: bytes.fromhex(match[1].decode()), value.encode())).decode()",
        (EVENTS,),
    ),
    Fault(
        "cloud-event-percent-not-encoded",
        f"{HERE}/cloudevents/http.py",
        r"[^\x21\x23\x24\x26-\x7e]",
        r"[^\x21\x23\x24\x25-\x7e]",
        (EVENTS,),
    ),
    Fault(
        "cloud-event-batch-is-taken",
        f"{HERE}/cloudevents/http.py",
        "    if media_type.startswith(_BATCH):\n",
        "    if False:\n",
        (EVENTS,),
    ),
    Fault(
        "redirect-is-followed",
        f"{HERE}/sending/sender.py",
        "allow_redirects=False",
        "allow_redirects=True",
        (f"{SENDER}::test_a_redirect_is_a_refusal_and_is_not_followed",),
    ),
    Fault(
        "refusal-after-sending-began",
        f"{HERE}/sending/sender.py",
        "        self._begun = True\n",
        "        self._begun = False\n",
        (SENDER,),
    ),
    Fault(
        "address-of-a-name-not-checked",
        f"{HERE}/sending/sender.py",
        "                self._allowed.check(target, ipaddress.ip_address(text))\n",
        "                ipaddress.ip_address(text)\n",
        (SENDER,),
    ),
    Fault(
        "socket-to-an-unchecked-address",
        f"{HERE}/sending/sender.py",
        "        if ipaddress.ip_address(address[0]) not in checked:\n",
        "        if False:\n",
        (f"{SENDER}::test_no_socket_is_made_for_an_address_that_was_not_checked",),
    ),
    Fault(
        "metadata-of-a-cloud-is-public",
        f"{HERE}/sending/targets.py",
        '        "169.254.0.0/16",',
        '        "169.253.0.0/16",',
        (TARGETS, SENDER),
    ),
    Fault(
        "mapped-addresses-are-public",
        f"{HERE}/sending/targets.py",
        "address in _GLOBAL_6 and not any",
        "not any",
        (TARGETS,),
    ),
    Fault(
        "userinfo-in-a-url",
        f"{HERE}/sending/targets.py",
        '    if "@" in parts.netloc:\n',
        "    if False:\n",
        (TARGETS,),
    ),
    Fault(
        "query-of-a-url-is-told",
        f"{HERE}/sending/targets.py",
        '    rest = re.split(r"[?#]", rest, maxsplit=1)[0]\n',
        "",
        (TARGETS, SENDER),
    ),
    Fault(
        "breaker-lets-every-probe-through",
        f"{HERE}/sending/breaker.py",
        "        return max(now, self.open_until or now, self.probe_until or now)\n",
        "        return max(now, self.open_until or now)\n",
        (OUTCOMES,),
    ),
    Fault(
        "breaker-never-waits-longer",
        f"{HERE}/sending/breaker.py",
        "            pause = min(pause * 2, limits.BREAKER_OPEN_MAX_US)\n",
        "            pause = min(pause, limits.BREAKER_OPEN_MAX_US)\n",
        (OUTCOMES,),
    ),
)
