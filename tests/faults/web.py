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
