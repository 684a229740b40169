"""Text over the wire: rules that are told in the OpenAPI document, and checked where the text is used.

JSON Schema counts characters where the limits are bytes of UTF-8: what `maxLength` says is the most that ASCII can have, and
`x-max-bytes` is the limit itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from perdure import limits

NO_CONTROL: Final = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
NOT_OURS: Final = "^(?!pd-)[^\\u0000-\\u001f\\u007f-\\u009f]*$"


def rules(limit: int, *, least: int = 1, pattern: str = NO_CONTROL) -> dict[str, Any]:
    """Return what the document says of a line of text of so many bytes at most."""
    return {"minLength": least, "maxLength": limit, "pattern": pattern, "x-max-bytes": limit}


def line(limit: int, *, least: int = 1, pattern: str = NO_CONTROL, description: str | None = None) -> msgspec.Meta:
    """Return the same as an annotation."""
    return msgspec.Meta(description=description, extra_json_schema=rules(limit, least=least, pattern=pattern))


def prose(limit: int) -> msgspec.Meta:
    """Return what the document says of text for people: any characters but NUL, which no store keeps."""
    return line(limit, least=0, pattern="^[^\\u0000]*$")


def cursor(pattern: str) -> msgspec.Meta:
    """Return what the document says of the place where a page begins: it is the server's, nobody makes one."""
    told = {"pattern": pattern, "x-opaque": True}
    return msgspec.Meta(description="`next` of the page before, to the same question.", extra_json_schema=told)


MessageIdText = Annotated[
    str, line(limits.MESSAGE_ID_MAX, pattern=NOT_OURS, description="No id that begins with `pd-`: those are Perdure's.")
]
SourceText = Annotated[str, line(limits.SOURCE_MAX, least=0, pattern=NOT_OURS)]
KeyText = Annotated[str, line(limits.REGISTRY_KEY_MAX)]
ReasonText = Annotated[str, line(limits.REASON_MAX, least=0)]
NAMES_CURSOR: Final = "^[A-Za-z0-9_-]+$"
PLACES_CURSOR: Final = "^[0-9]{1,18}:"
