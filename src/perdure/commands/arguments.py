"""Arguments of the registry's calls, checked at the door."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import islice

import msgspec

from perdure import limits
from perdure.blob import Blob
from perdure.clock import Micros
from perdure.commands.contract import (
    NOTHING,
    Body,
    CommandError,
    CommandFilter,
    CommandOutcome,
    CommandRetry,
    Failed,
    Progress,
    Stopped,
    Succeeded,
)
from perdure.commands.states import CommandState
from perdure.commands.tables import BodyRow
from perdure.commands.writes import Ending
from perdure.errors import PayloadTooLarge, PayloadUnencodable, UsageError
from perdure.headers import JSON_TYPE
from perdure.identity import ContentHash, checked_text


def checked_name(text: object, *, what: str) -> str:
    """Return the name of a deployment, a target or a command. Raises InvalidIdentifier."""
    return checked_text(text, what=what, limit=limits.COMMAND_NAME_MAX)


def checked_target(target: str | None) -> str:
    """Return a target as it is stored: empty for none. Raises InvalidIdentifier, also for an empty one."""
    return "" if target is None else checked_name(target, what="target")


def checked_command_id(command_id: object) -> str:
    """Return the id of a command. Raises InvalidIdentifier."""
    return checked_text(command_id, what="command_id", limit=limits.COMMAND_ID_MAX)


def checked_line(text: object, *, what: str, limit: int) -> str:
    """Return a line of text, which may be empty. Raises InvalidIdentifier."""
    return "" if text == "" else checked_text(text, what=what, limit=limit)


def checked_prose(text: object, *, what: str, limit: int) -> str:
    """Return text for people, of any characters that can be stored.

    Raises:
        UsageError: it is no text, or cannot be stored.
        PayloadTooLarge: it is over its limit.
    """
    if not isinstance(text, str):
        raise UsageError(f"{what}: expected text, found {type(text).__name__}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{what}: expected UTF-8 text, found a lone surrogate") from None
    if "\0" in text:
        raise UsageError(f"{what}: a NUL character cannot be stored")
    if size > limit:
        raise PayloadTooLarge(what, size=size, limit=limit)
    return text


def checked_span(value: object, *, what: str, least: Micros, most: Micros) -> Micros:
    """Return a duration in microseconds. Raises UsageError."""
    if type(value) is not int or not least <= value <= most:
        raise UsageError(f"{what}: expected {least:,} to {most:,} microseconds, found {value!r:.{limits.REPR_MAX}}")
    return value


def checked_instant(value: object, *, what: str) -> Micros | None:
    """Return an instant, or None. Raises UsageError."""
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= limits.INSTANT_MAX:
        raise UsageError(f"{what}: expected microseconds since the epoch, found {value!r:.{limits.REPR_MAX}}")
    return value


def checked_size(value: object, *, what: str) -> int | None:
    """Return a number of bytes, or None. Raises UsageError."""
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= limits.SEQUENCE_MAX:
        raise UsageError(f"{what}: expected a number of bytes, found {value!r:.{limits.REPR_MAX}}")
    return value


def checked_token(token: object) -> int:
    """Return a fencing token. Raises UsageError."""
    if type(token) is not int or not 1 <= token <= limits.SEQUENCE_MAX:  # 0 stands for none
        raise UsageError(f"token: expected the token of a lease, found {token!r:.{limits.REPR_MAX}}")
    return token


def checked_names(names: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the names of commands, each once. Raises InvalidIdentifier, UsageError for none or too many."""
    if names is None:
        return None
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise UsageError(f"names: expected several names, found {names!r:.{limits.REPR_MAX}}")
    found = tuple(checked_name(name, what="names") for name in islice(names, limits.COMMAND_NAMES_MAX + 1))
    if not 1 <= len(found) <= limits.COMMAND_NAMES_MAX:
        raise UsageError(f"names: expected 1 to {limits.COMMAND_NAMES_MAX} of them, found {len(found)} or more")
    return tuple(dict.fromkeys(found))


def checked_retry(retry: CommandRetry) -> bytes:
    """Return a policy as it is stored. Raises UsageError."""
    if not isinstance(retry, CommandRetry):
        raise UsageError(f"retry: expected a CommandRetry, found {type(retry).__name__}")
    return msgspec.json.encode(retry)


def checked_priority(priority: object) -> int:
    """Return a priority. Raises UsageError."""
    if type(priority) is not int or not -limits.PRIORITY_MAX <= priority <= limits.PRIORITY_MAX:
        raise UsageError(f"priority: expected -{limits.PRIORITY_MAX} to {limits.PRIORITY_MAX}, found {priority!r:.{limits.REPR_MAX}}")
    return priority


def checked_state(state: object) -> CommandState:
    """Return a state. Raises UsageError."""
    try:
        return CommandState(str(state) if isinstance(state, str) else "")
    except ValueError:
        raise UsageError(f"state: expected one of {', '.join(CommandState)}, found {state!r:.{limits.REPR_MAX}}") from None


def checked_error(error: msgspec.Raw | None) -> bytes | None:
    """Return an error that is kept as it is. Raises PayloadTooLarge, PayloadUnencodable, UsageError."""
    return None if error is None else _checked_data(error, what="error", limit=limits.COMMAND_ERROR_MAX)


def checked_filter(matching: CommandFilter) -> CommandFilter:
    """Return what a list is to show. Raises UsageError, InvalidIdentifier."""
    if not isinstance(matching, CommandFilter):
        raise UsageError(f"matching: expected a CommandFilter, found {type(matching).__name__}")
    for what in ("deployment_id", "target", "command"):
        if (name := getattr(matching, what)) is not None:
            checked_name(name, what=what)
    return matching


def body_row(body: Body, *, what: str, limit: int) -> BodyRow:
    """Return params or a result as it is stored.

    Raises:
        PayloadTooLarge: what is inline is over its limit.
        PayloadUnencodable: what is inline is no JSON.
        InvalidIdentifier, UsageError: it is neither bytes nor a blob.
    """
    if isinstance(body, Blob):
        size = checked_size(body.size, what=f"{what}.size")
        if size is None:
            raise UsageError(f"{what}.size: expected a number of bytes, found None")
        kind = checked_line(body.content_type, what=f"{what}.content_type", limit=limits.COMMAND_NAME_MAX)
        return BodyRow(None, str(ContentHash(body.sha256)), size, kind)
    if not isinstance(body, bytes):
        raise UsageError(f"{what}: expected bytes of JSON or a Blob, found {type(body).__name__}")
    if len(body) > limit:
        raise PayloadTooLarge(what, size=len(body), limit=limit)
    return BodyRow(checked_json(body, what=what), "", len(body), JSON_TYPE)


def body_of(row: BodyRow | None) -> Body | None:
    """Return params or a result as their reader gets them."""
    if row is None:
        return None
    return row.data if row.data is not None else Blob(sha256=row.sha256, size=row.size, content_type=row.content_type)


def checked_json(data: bytes, *, what: str) -> bytes:
    """Return bytes that are one JSON document. Raises PayloadUnencodable."""
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PayloadUnencodable(f"{what}: expected JSON, found {data[: limits.REPR_MAX]!r}: {error}") from None
    return data


def _checked_data(data: bytes | msgspec.Raw, *, what: str, limit: int) -> bytes:
    if not isinstance(data, bytes | msgspec.Raw):
        raise UsageError(f"{what}: expected JSON data, found {type(data).__name__}")
    found = bytes(data)
    if len(found) > limit:
        raise PayloadTooLarge(what, size=len(found), limit=limit)
    return checked_json(found, what=what)


def digest_of(params: BodyRow | None, size: int | None) -> bytes:
    """Return what tells one request from another with the same idempotency key."""
    if params is None:
        return hashlib.sha256(f"none {size}".encode()).digest()
    if params.data is None:
        return hashlib.sha256(f"blob {params.sha256}".encode()).digest()
    return hashlib.sha256(b"json " + params.data).digest()


def ending_of(outcome: CommandOutcome) -> Ending:
    """Return how an attempt ended. Raises PayloadTooLarge, PayloadUnencodable, UsageError, InvalidIdentifier."""
    match outcome:
        case Succeeded():
            return Ending(state=CommandState.SUCCEEDED, result=body_row(outcome.result, what="result", limit=limits.COMMAND_RESULT_MAX))
        case Failed():
            details = NOTHING
            if outcome.details is not None:
                details = msgspec.Raw(_checked_data(outcome.details, what="details", limit=limits.COMMAND_MESSAGE_MAX))
            if type(outcome.retryable) is not bool:
                raise UsageError(f"retryable: expected True or False, found {outcome.retryable!r:.{limits.REPR_MAX}}")
            code = checked_text(outcome.code, what="code", limit=limits.COMMAND_CODE_MAX)
            message = checked_prose(outcome.message, what="message", limit=limits.COMMAND_MESSAGE_MAX)
            error = CommandError(code=code, message=message, details=details)
            return Ending(state=CommandState.FAILED, error=error, retryable=outcome.retryable)
        case Stopped():
            message = checked_prose(outcome.message, what="message", limit=limits.COMMAND_MESSAGE_MAX)
            return Ending(state=CommandState.CANCELLED, error=CommandError(code="command-cancelled", message=message))
    raise UsageError(f"outcome: expected Succeeded, Failed or Stopped, found {type(outcome).__name__}")


def checked_progress(progress: Progress | None) -> Progress | None:
    """Return what a worker says of its progress. Raises UsageError, InvalidIdentifier."""
    if progress is None:
        return None
    if not isinstance(progress, Progress):
        raise UsageError(f"progress: expected a Progress, found {type(progress).__name__}")
    if not isinstance(progress.fraction, int | float) or not 0 <= progress.fraction <= 1:  # in this form, NaN is refused
        raise UsageError(f"progress.fraction: expected 0 to 1, found {progress.fraction!r:.{limits.REPR_MAX}}")
    checked_line(progress.note, what="progress.note", limit=limits.COMMAND_NOTE_MAX)
    return progress
