"""The secrets of a source: where they come from, and that nobody sees them."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Sequence
from typing import Final

from perdure import limits
from perdure.errors import WebhookSecretInvalid
from perdure.identity import Randomness

SecretsGiven = str | Sequence[str] | Callable[[], str | Sequence[str]]
"""One secret, several while they are rotated, or a function that returns either."""

PREFIX: Final = "whsec_"


class Secrets:
    """Where the secrets of a source come from. They are asked for at each use, and are in no repr and no error.

    Args:
        given: a secret, several, or a function that returns either. The first one signs, all of them verify.
        env: instead, the name of an environment variable, with secrets separated by spaces.
        what: whose secrets these are, for errors.
    """

    __slots__ = ("_env", "_given", "what")

    def __init__(self, given: SecretsGiven | None = None, *, env: str | None = None, what: str = "webhook") -> None:
        if (given is None) == (env is None):
            raise WebhookSecretInvalid(f"{what}: give a secret, or the name of the environment variable that holds it")
        self._given = given
        self._env = env
        self.what = what

    def __repr__(self) -> str:
        return "Secrets(…)" if self._env is None else f"Secrets(env={self._env!r})"

    def texts(self) -> tuple[str, ...]:
        """Return the secrets as they are now, at least one. Raises WebhookSecretInvalid."""
        if self._env is not None:
            found: str | Sequence[str] = os.environ.get(self._env, "").split()
            where = f"environment variable {self._env}"
        else:
            assert self._given is not None, "secrets are given, or in the environment"
            found = self._given() if callable(self._given) else self._given
            where = "the secret that was given"
        secrets = (found,) if isinstance(found, str) else tuple(found)
        if not 1 <= len(secrets) <= limits.WEBHOOK_SECRETS_MAX:
            raise WebhookSecretInvalid(f"{self.what}: {where} has {len(secrets)} secrets, expected 1 to {limits.WEBHOOK_SECRETS_MAX}")
        if not all(isinstance(secret, str) and secret and secret.isascii() and secret.isprintable() for secret in secrets):
            raise WebhookSecretInvalid(f"{self.what}: {where} is no secret; it is text of printable ASCII characters, and not empty")
        return secrets

    def raw(self) -> tuple[bytes, ...]:
        """Return the secrets as the bytes of their text. Raises WebhookSecretInvalid."""
        return tuple(secret.encode() for secret in self.texts())

    def decoded(self) -> tuple[bytes, ...]:
        """Return the secrets of Standard Webhooks, `whsec_` and Base64, as their bytes. Raises WebhookSecretInvalid."""
        return tuple(self._decoded(secret) for secret in self.texts())

    def _decoded(self, secret: str) -> bytes:
        text = secret.removeprefix(PREFIX)
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            raise WebhookSecretInvalid(f"{self.what}: a secret is no Base64 text; expected {PREFIX}…") from None
        if not limits.WEBHOOK_SECRET_MIN <= len(key) <= limits.WEBHOOK_SECRET_MAX:
            expected = f"{limits.WEBHOOK_SECRET_MIN} to {limits.WEBHOOK_SECRET_MAX}"
            raise WebhookSecretInvalid(f"{self.what}: a secret has {len(key)} bytes, expected {expected}; make a new one")
        return key


def new_secret(randomness: Randomness) -> str:
    """Return a new secret of Standard Webhooks, `whsec_` and 32 random bytes as Base64."""
    return PREFIX + base64.b64encode(randomness(32)).decode()
