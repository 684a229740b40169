"""Why a type has no schema, and where: `msgspec` names the rule, not the way to the part that breaks it."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Annotated, Any, Final, ForwardRef, Literal

from msgspec import inspect

from perdure.errors import SchemaUnsupported
from perdure.names import public_name, public_text

# Annotations are evaluated to be inspected, and `msgspec` has its own refusals among these.
REFUSALS: Final = (AttributeError, ImportError, NameError, RuntimeError, SyntaxError, TypeError, ValueError)

_IMPORTABLE: Final = "every name in annotations has to be importable at run time: not local to a function, not only under TYPE_CHECKING"


def refusal_of(root: Any, error: Exception) -> SchemaUnsupported:
    """Return the error for a type that `msgspec` refused, with the path to the smallest part that it refuses."""
    if isinstance(error, RecursionError):
        return SchemaUnsupported(_name_of(root), "it contains itself with ever larger arguments, or its types are nested too deeply")
    path, part, seen = _entered("", root), root, [root]
    while found := next(((step, inner, cause) for step, inner in _parts(part) if (cause := _refused(inner, seen))), None):
        step, part, error = found
        path = _entered(path + step, part)
        seen.append(part)
    return SchemaUnsupported(path.lstrip("."), _reason(part, error))


def _reason(part: Any, error: Exception) -> str:
    if isinstance(part, ForwardRef | str):
        return f"name {part if isinstance(part, str) else part.__forward_arg__!r} is not defined; {_IMPORTABLE}"
    if isinstance(error, NameError | AttributeError | ImportError):
        return public_text(f"{error}; {_IMPORTABLE}")
    return public_text(str(error))


def _refused(part: Any, seen: list[Any]) -> Exception | None:
    if any(part is one or part == one for one in seen):
        return None
    try:
        inspect.type_info(part)
    except REFUSALS as error:
        return error
    return None


def _parts(kind: Any) -> Iterator[tuple[str, Any]]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        yield "", arguments[0]
    elif origin is tuple and Ellipsis not in arguments:
        yield from ((f"[{place}]", part) for place, part in enumerate(arguments))
    elif origin is not None and origin is not Literal:
        container = not _has_fields(origin) and isinstance(origin, type) and hasattr(origin, "__contains__")
        yield from (("[]" if container else "", part) for part in arguments if part is not Ellipsis)
    if supertype := getattr(kind, "__supertype__", None):
        yield "", supertype
    if _has_fields(origin or kind):
        try:
            hints = typing.get_type_hints(origin or kind, include_extras=True)
        except REFUSALS:
            return
        yield from ((f".{name}", hint) for name, hint in hints.items())


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, type) and any(getattr(base, "__annotations__", None) for base in kind.__mro__)


def _entered(path: str, kind: Any) -> str:
    cls = typing.get_origin(kind) or kind
    return f"{path}.{cls.__name__}" if _has_fields(cls) else path


def _name_of(kind: Any) -> str:
    return public_name(str(getattr(typing.get_origin(kind) or kind, "__name__", kind)))
