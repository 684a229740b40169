"""What every refusal over HTTP says.

Source: RFC 9457; commands.md, "HTTP".
"""

from __future__ import annotations

from typing import Final

import msgspec

PROBLEM_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:perdure:problem:"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A refusal as RFC 9457 has it. Programs compare `code`, which never changes; `detail` is for people.

    `retryable` says that the same request, made again later, can succeed without any change to it.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool = False
    instance: str | None = None
