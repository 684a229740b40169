"""The documents: their code and their links."""

from __future__ import annotations

import re
from collections.abc import Iterator

_FENCE = re.compile(r"^```(.*)$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*\bsrc=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ +(.*)$")


def fences(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield every fenced block: the number of its opening line, its info string, its text."""
    opened: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if opened is None:
            if found := _FENCE.match(line):
                opened, lines = (number, found[1].strip()), []
        elif line.strip() == "```":
            yield (*opened, "".join(f"{line}\n" for line in lines))
            opened = None
        else:
            lines.append(line)
    assert opened is None, f"line {opened}: a block that is never closed"


def blocks(text: str) -> list[tuple[int, str]]:
    """Return the blocks that run: ```python without `no-run`."""
    return [(number, source) for number, info, source in fences(text) if info == "python"]


def links(text: str) -> Iterator[tuple[int, str]]:
    """Yield the target of every link and picture that stands outside of code."""
    for number, line in _prose(text):
        for found in _LINK.finditer(re.sub(r"`[^`]*`", "", line)):
            yield number, found[1] or found[2]


def anchors(text: str) -> set[str]:
    """Return what `#…` may point to on the page: its headings, as GitHub writes them."""
    headings = [found[1] for _, line in _prose(text) if (found := _HEADING.match(line))]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _prose(text: str) -> Iterator[tuple[int, str]]:
    inside = {line for number, _, source in fences(text) for line in range(number, number + source.count("\n") + 2)}
    return ((number, line) for number, line in enumerate(text.splitlines(), 1) if number not in inside)
