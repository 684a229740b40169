"""How the outcome of a step or a turn is recorded, so that the first run and every replay see equal values."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.codec import JSON
from perdure.commands.contract import CommandEnd
from perdure.commands.states import CommandState
from perdure.engine.steps import plain_function
from perdure.errors import CommandCancelled, CommandExpired, CommandFailed, PayloadUnencodable, PerdureError, StepOutputInvalid
from perdure.names import imported, public_name, public_text, shown, storable

UNANNOTATED: Final[Any] = object()
Decoder = Callable[[Any], Callable[[bytes], Any]]


class _Failure(msgspec.Struct, frozen=True):
    module: str
    name: str
    text: str
    args: msgspec.Raw  # null: they had no form
    attributes: dict[str, msgspec.Raw]


_encode_failure: Final = msgspec.json.Encoder().encode
_decode_failure: Final = msgspec.json.Decoder(_Failure).decode
_decode_end: Final = msgspec.json.Decoder(CommandEnd).decode


def return_type(function: Callable[..., Any]) -> Any:
    """Return what a function is declared to return, or `UNANNOTATED`."""
    function = plain_function(function)
    target = function if hasattr(function, "__annotations__") else getattr(function, "__call__", function)  # noqa: B004  # an object's own call
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return UNANNOTATED
    return hints.get("return", UNANNOTATED)


class Output:
    """The recorded form of what one function returns: encoded by the codec, decoded by the declared type.

    Without a declared type it has to be plain JSON data that survives the round trip.

    Args:
        kind: the declared type, or `UNANNOTATED`.
        decoder: makes what reads a type.

    Source: engine.md, "Live equals replay".
    """

    __slots__ = ("decode", "typed")

    def __init__(self, kind: Any, decoder: Decoder = JSON.decoder) -> None:
        self.typed = kind is not UNANNOTATED
        self.decode: Callable[[bytes], Any] = decoder(kind if self.typed else Any)

    def record(self, value: object, *, what: str, limit: int, name: str = "") -> tuple[bytes, Any]:
        """Return the bytes to record, and the value that the code gets; `what` returned it, and its `name`, are for the text of an error.

        Raises:
            StepOutputInvalid: the value has no bytes, too many, or does not come back from them.
        """
        try:
            data = JSON.encode(value)
            decoded = self.decode(data)
            same = self.typed or (type(decoded) is type(value) and bool(decoded == value))
        except Exception as error:  # the value's own code runs in here; whatever it raises, the effect has happened
            raise StepOutputInvalid(
                f"{_named(what, name)} returned what cannot be recorded: {error}; annotate and return plain data"
            ) from error
        if len(data) > limit:
            raise StepOutputInvalid(
                f"{_named(what, name)} returned {len(data):,} bytes, the limit is {limit:,}; keep large data elsewhere and return a reference"
            )
        if not same:
            raise StepOutputInvalid(
                f"{_named(what, name)} returned {_short(value)}, which comes back as {_short(decoded)}; declare the type that it returns"
            )
        return data, decoded


def _named(what: str, name: str) -> str:
    return f"{what} {name!r}" if name else what


def encode_error(error: BaseException) -> bytes:
    """Return the recorded form of an exception: its class, text, `args` and those attributes that encode."""
    attributes = {}
    for name, value in vars(error).items():
        if name.isidentifier() and not name.startswith("_") and (data := _encoded(_public(value))) is not None:
            attributes[name] = msgspec.Raw(data)
    args = _encoded([_public(value) for value in error.args])
    kind = type(error)
    module = public_name(kind.__module__)
    return _encode_failure(_Failure(module, kind.__qualname__, _text_of(error), msgspec.Raw(args or b"null"), attributes))


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)[: limits.ERROR_TEXT_MAX]
    except Exception:  # noqa: BLE001  # any code can stand in an exception's `__str__`; the step has failed all the same
        return "(its text cannot be made)"
    return storable(public_text(text))


def _public(value: object) -> object:
    return public_text(value) if isinstance(value, str) else value  # Python names modules in the texts of its own errors


def decode_error(data: bytes, *, otherwise: type[PerdureError], by: str = "") -> Exception:
    """Return the exception that `encode_error` recorded: of the same class when that can be found, else `otherwise`.

    Args:
        data: what was recorded, where a class has its public name.
        otherwise: what it is when the class cannot be found, or not be made again.
        by: the module whose import statements find the class; of a package, that decides whose version it is.
    """
    try:
        failure = _decode_failure(data)
    except msgspec.ValidationError:
        return command_error(_decode_end(data))
    try:
        same = _made_again(failure, by)
    except Exception:  # noqa: BLE001  # whatever importing or making the class raises: it is not to be had here
        same = None
    return otherwise(f"{failure.name}: {failure.text}") if same is None else same


def _made_again(failure: _Failure, by: str) -> Exception | None:
    kind: Any = imported(failure.module, by=by)
    for part in failure.name.split("."):
        kind = getattr(kind, part)
    args = msgspec.json.decode(failure.args)
    # A future cannot hold a StopIteration.
    if args is None or not issubclass(kind, Exception) or issubclass(kind, StopIteration):
        return None
    error: Exception = kind.__new__(kind, *args)
    error.args = tuple(args)
    for name, value in failure.attributes.items():
        setattr(error, name, msgspec.json.decode(value))
    str(error)  # it may need what was left out; then nobody could use it
    return error


def failure_of(data: bytes) -> tuple[str, str]:
    """Return the name of an exception's class, and its text."""
    failure = _decode_failure(data)
    return failure.name, failure.text


def error_text(data: bytes) -> str:
    """Return an exception's class and text, for people."""
    try:
        failure = _decode_failure(data)
    except msgspec.ValidationError:
        end = _decode_end(data)
        return f"{end.state}: {end.code}: {end.message}"
    return f"{failure.name}: {failure.text}"


def command_error(end: CommandEnd) -> CommandFailed:
    """Return what whoever waits for a command gets when it was not done."""
    kind = {CommandState.EXPIRED: CommandExpired, CommandState.CANCELLED: CommandCancelled}.get(end.state, CommandFailed)
    return kind(end.code, end.message, msgspec.json.decode(end.details))


def _encoded(value: object) -> bytes | None:
    try:
        data = JSON.encode(value)
    except PayloadUnencodable:
        return None
    return data if len(data) <= limits.ERROR_TEXT_MAX else None


def _short(value: object) -> str:
    try:
        text = shown(value)
    except Exception:  # noqa: BLE001  # a value that cannot be shown is named by its type
        text = f"a {type(value).__name__}"
    return text if len(text) <= limits.REPR_MAX else text[: limits.REPR_MAX] + "…"
