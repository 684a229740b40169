"""How values become bytes. JSON is the default; MessagePack is the compact one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import msgspec

from perdure.errors import PayloadInvalid, PayloadUnencodable, UsageError
from perdure.identity import decode_identifier, encode_identifier
from perdure.names import public_name, storable

T = TypeVar("T")


class Codec(Protocol):
    """One way to write values. Encoding is deterministic: equal values of one type give equal bytes."""

    name: str

    def encode(self, value: object) -> bytes:
        """Return the bytes of `value`.

        Raises:
            PayloadUnencodable: the codec cannot hold it (a non-finite float in JSON, an integer over 64 bits, a type without form).
        """
        ...

    def decoder(self, kind: Any, *, what: str = "") -> Callable[[bytes], Any]:  # a type expression: `Order | None` is no `type`
        """Return a function from bytes to a value of `kind`; it raises PayloadInvalid with a path, and `what` for the type's name."""
        ...


_UNENCODABLE: Final = (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError)


class _MsgspecCodec:
    name = ""

    def __init__(
        self,
        encoder: msgspec.json.Encoder | msgspec.msgpack.Encoder,
        decoder: Callable[..., Any],
        keyed: Callable[[object], bytes],
    ) -> None:
        self._encoder = encoder
        self._make_decoder = decoder
        self._encode_keyed = keyed  # what holds dicts whose keys are no text, which msgspec does not put into order by itself

    def encode(self, value: object) -> bytes:
        try:
            try:
                return self._encoder.encode(value)
            except TypeError:
                return self._encode_keyed(value)
        except _UNENCODABLE as error:
            raise PayloadUnencodable(f"{type(value).__name__}: {error}") from error

    def decoder(self, kind: Any, *, what: str = "") -> Callable[[bytes], Any]:  # see Codec
        decode = self._make_decoder(kind, dec_hook=decode_identifier).decode
        name = public_name(str(getattr(kind, "__name__", kind)))

        def decoded(data: bytes) -> Any:  # whatever `kind` says
            try:
                return decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                # Who has sent the data has a part in the text, and so have checks of the type's own; it is stored with what cannot be read.
                raise PayloadInvalid(f"not {what or f'a {name}'}: {storable(str(error))}") from error

        return decoded


class _JsonCodec(_MsgspecCodec):
    name = "json"

    def encode(self, value: object) -> bytes:
        try:
            data = self._encoder.encode(value)
        except _UNENCODABLE:  # the whole way tells what is wrong with it
            data = super().encode(value)
        # msgspec writes NaN and infinities as null, which would come back as another value. Only then is a walk needed.
        if b"null" in data and _has_nonfinite(msgspec.to_builtins(value, enc_hook=encode_identifier)):
            raise PayloadUnencodable(f"{type(value).__name__}: JSON has no NaN and no infinity; use None or text")
        return data


class _MsgpackCodec(_MsgspecCodec):
    name = "msgpack"


def _has_nonfinite(tree: object) -> bool:
    match tree:
        case float():
            return not math.isfinite(tree)
        case dict():
            return any(_has_nonfinite(item) for pair in tree.items() for item in pair)
        case list() | tuple() | set() | frozenset():
            return any(_has_nonfinite(item) for item in tree)
        case _:
            return False


_json: Final = msgspec.json.Encoder(enc_hook=encode_identifier, order="deterministic")
_msgpack: Final = msgspec.msgpack.Encoder(enc_hook=encode_identifier, order="deterministic")
_as_inserted: Final = msgspec.msgpack.Encoder(enc_hook=encode_identifier)


def _json_keyed(value: object) -> bytes:
    return _json.encode(msgspec.to_builtins(value, str_keys=True, order="deterministic", enc_hook=encode_identifier))


JSON: Final[Codec] = _JsonCodec(_json, msgspec.json.Decoder, _json_keyed)
MSGPACK: Final[Codec] = _MsgpackCodec(_msgpack, msgspec.msgpack.Decoder, _as_inserted.encode)

_CODECS: Final = {codec.name: codec for codec in (JSON, MSGPACK)}


def codec_of(name: str) -> Codec:
    """Return the codec of this name; raise UsageError when there is none."""
    try:
        return _CODECS[name]
    except KeyError:
        raise UsageError(f"codec {name!r}: expected one of {sorted(_CODECS)}") from None
