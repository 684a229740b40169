"""Upcasters: pure functions of an app that make what an older version of its code wrote into what the code of now reads.

Nothing that is stored says which version of a type wrote it. A value is taken for the older type when it has exactly that
type's fields, and not exactly those of the type that is asked for, or cannot be read as that one.

Source: schemas.md, "Plan", upcasters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from perdure.codec import JSON
from perdure.errors import DefinitionError, PayloadInvalid, SchemaUnsupported
from perdure.names import shown
from perdure.schemas import SchemaRegistry, TypeRef, Upcast, schema_of
from perdure.schemas.renaming import renamed

Decode = Callable[[bytes], Any]
_decode_any: Final = JSON.decoder(Any)


class _Form(NamedTuple):
    """The names by which values of a type are known, and how they are read."""

    names: frozenset[str]
    open: bool  # whether names may be left out
    decode: Decode

    def fits(self, tree: dict[str, Any]) -> bool:
        return tree.keys() <= self.names if self.open else tree.keys() == self.names


class _Upcaster(NamedTuple):
    function: Upcast
    old: type
    new: type
    form: _Form  # of the old type

    def __call__(self, tree: Any) -> bytes:
        try:
            return JSON.encode(self.function(tree))
        except Exception as error:  # the function is the user's: whatever it raises, this value cannot be read
            name = getattr(self.function, "__qualname__", shown(self.function))
            raise PayloadInvalid(f"not a {self.new.__name__}: upcaster {name} of {self.old.__name__}: {error!r}") from error


class Known(NamedTuple):
    """What plans need to know of upcasters: `{old hash: (function, new hash)}`, and the documents of both."""

    upcasters: dict[str, tuple[Upcast, str]]
    documents: SchemaRegistry

    @property
    def leads(self) -> Leads:
        """What of it one interpreter can tell another."""
        return Leads({old: new for old, (_, new) in self.upcasters.items()}, dict(self.documents))


class Leads(NamedTuple):
    """Which schema an upcaster leads to from which: `{old hash: new hash}`, and the documents of both."""

    to: dict[str, str]
    documents: dict[str, bytes]


class Upcasting:
    """The upcasters of one app, and decoders that use them. They may be declared before or after the types that they are for."""

    def __init__(self) -> None:
        self._to: dict[type, list[_Upcaster]] = {}
        self._forms: dict[type, _Form] = {}

    def declare(self, old: Any, new: Any, function: Upcast) -> None:
        """Use `function` where a value of `new` is read and one of `old` is found; see `App.upcast`. Raises DefinitionError."""
        forms = [_form_of(kind) for kind in (old, new)]
        if new is old or any(one is new for one, _ in self._before(old)):
            raise DefinitionError(f"upcast({old.__name__}, {new.__name__}): upcasters lead from {new.__name__} to {old.__name__} already")
        made = self._to.setdefault(new, [])
        if any(one.old is old for one in made):
            raise DefinitionError(f"upcast({old.__name__}, {new.__name__}) is declared twice; take one of them away")
        self._forms[new] = forms[1]
        made.append(_Upcaster(function, old, new, forms[0]))

    def decoder(self, kind: Any, *, what: str = "") -> Decode:
        """Return what reads values of a type, older ones as well, as `Codec.decoder` does."""
        plain = JSON.decoder(kind, what=what)
        if not isinstance(kind, type):
            return plain
        to = self._to

        def decode(data: bytes) -> Any:
            return self._read(kind, plain, data) if kind in to else plain(data)

        return decode

    def known(self) -> Known:
        """Return the upcasters by hash. An older type counts under its own name, and under those of the types that it leads to."""
        upcasters: dict[str, tuple[Upcast, str]] = {}
        documents: dict[str, bytes] = {}
        for new, made in self._to.items():
            target, found = schema_of(new)
            documents.update(found)
            for upcaster in made:
                for ref, found in self._writers(upcaster.old):
                    documents.update(found)
                    upcasters.setdefault(ref.hash, (upcaster.function, target.hash))
        return Known(upcasters, SchemaRegistry(documents))

    def _writers(self, old: type) -> Iterator[tuple[TypeRef, SchemaRegistry]]:
        """Return the schemas that whatever wrote values of an old type may have had: it was called otherwise when it was the only one."""
        ref, documents = schema_of(old)
        yield ref, documents
        for name in dict.fromkeys(kind.__name__ for kind in self._behind(old)):
            yield renamed(ref, documents, name)

    def _behind(self, old: type) -> Iterator[type]:
        for new, made in self._to.items():
            if any(one.old is old for one in made):
                yield new
                yield from self._behind(new)

    def _before(self, kind: type) -> Iterator[tuple[type, tuple[_Upcaster, ...]]]:
        """Yield the types that upcasters lead from to `kind`, the nearest first, each with its upcasters in order."""
        paths: list[tuple[type, tuple[_Upcaster, ...]]] = [(kind, ())]
        for reached, path in paths:
            found = [(one.old, (one, *path)) for one in reversed(self._to.get(reached, ()))]
            yield from found
            paths.extend(found)

    def _read(self, kind: type, plain: Decode, data: bytes) -> Any:
        tree = _decode_any(data)
        exact = isinstance(tree, dict) and self._forms[kind].fits(tree)
        failure: PayloadInvalid | None = None
        for strictly in (True, False):
            if exact or not strictly:
                try:
                    return plain(data)
                except PayloadInvalid as error:
                    failure = error
            for _, path in self._before(kind):
                if _is_of(path[0].form, tree, data, strictly=strictly):
                    return _upcast(path, tree, plain)
        assert failure is not None, "it was tried"
        raise failure


def _is_of(form: _Form, tree: Any, data: bytes, *, strictly: bool) -> bool:
    if strictly and not (isinstance(tree, dict) and form.fits(tree)):
        return False
    try:
        form.decode(data)
    except PayloadInvalid:
        return False
    return True


def _upcast(path: tuple[_Upcaster, ...], tree: Any, plain: Decode) -> Any:
    for upcaster in path:
        data = upcaster(tree)
        tree = _decode_any(data)
    return plain(data)


def _form_of(kind: Any) -> _Form:
    config = getattr(kind, "__struct_config__", None)
    names: tuple[str, ...] = ()
    if config is not None and not config.array_like:
        names = (*kind.__struct_encode_fields__, *([config.tag_field] if config.tag is not None else []))
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        names = tuple(field.name for field in dataclasses.fields(kind))
    else:
        raise DefinitionError(f"upcast takes two types with named fields, Structs or dataclasses, found {shown(kind)}")
    try:
        schema_of(kind)
    except SchemaUnsupported as error:
        raise DefinitionError(f"upcast: {error}") from error
    return _Form(frozenset(names), bool(config is not None and config.omit_defaults), JSON.decoder(kind))
