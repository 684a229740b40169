"""The pages of the reference that are made from the code. `make reference` writes them; a test compares them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator

import perdure
from perdure import errors, testing
from perdure.errors import PerdureError
from tests.gate.tree import ROOT

ERRORS = """\
# Errors

Everything that Perdure raises on purpose is a `perdure.PerdureError`; the classes are in `perdure.errors`. Programs compare
the class or its `code`, which never changes; the text is for people and may change. **Retryable** says that the same call,
made again later, can succeed without any change to it. A broken invariant of Perdure's own is an `AssertionError`: report it.

This page is made from `src/perdure/errors/` by `make reference`.
"""
API = """\
# Public names

What `import perdure` offers, and `import perdure.testing`. Beside them, these modules are public: `perdure.errors`, `perdure.server`, `perdure.schemas`, `perdure.deploying.building`, `perdure.deploying.trial`, `perdure.deploying.candidates`, `perdure.deploying.checking`, and what
the rooms promise, `perdure.routing.contract`, `perdure.operations.contract`, `perdure.conversations.contract`, `perdure.streams.contract`, `perdure.tokens.contract` and `perdure.packages.contract`. Everything
else is private and may change in any version.

This page is made from `perdure.__all__` and `perdure.testing.__all__` by `make reference`.
"""


def errors_page() -> str:
    """Return the page about every class of `perdure.errors`, by section of its files."""
    return "\n".join([ERRORS, *_error_sections()])


def _error_sections() -> Iterator[str]:
    sections: dict[str, list[type[PerdureError]]] = {"": []}
    sources = (errors.roots, errors.store, errors, errors.commands, errors.packages, errors.web, errors.http)
    for module, line in [(errors, line) for one in sources for line in inspect.getsource(one).splitlines()]:
        if line.startswith("# --- "):
            sections[line.strip("# -")] = []
        elif found := re.match(r"class (\w+)", line):
            kind = getattr(module, found[1])
            if issubclass(kind, PerdureError):
                list(sections.values())[-1].append(kind)
    for title, rows in sections.items():
        yield _table(title, rows)


def _table(title: str, rows: list[type[PerdureError]]) -> str:
    head = [f"## {title[0].upper()}{title[1:]}\n"] if title else []
    lines = ["| class | code | kind of | retryable | meaning |", "|---|---|---|---|---|"]
    for row in rows:
        kind = row.__bases__[0].__name__
        retryable = "yes" if row.retryable else ""
        lines.append(f"| `{row.__name__}` | `{row.code}` | `{kind}` | {retryable} | {_first_line(row)} |")
    return "\n".join([*head, *lines, ""])


def api_page() -> str:
    """Return the page about every public name, in alphabetical order."""
    lines = ["| name | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {_first_line(getattr(perdure, name))} |" for name in sorted(perdure.__all__)]
    lines += ["", "## perdure.testing", "", "| name | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {_first_line(getattr(testing, name))} |" for name in sorted(testing.__all__)]
    return "\n".join([API, *lines, ""])


def _first_line(thing: object) -> str:
    text = inspect.getdoc(thing) if callable(thing) or inspect.ismodule(thing) else None
    return (text or "").strip().partition("\n")[0].replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {"docs/reference/errors.md": errors_page, "docs/reference/api.md": api_page}


if __name__ == "__main__":
    for path, page in PAGES.items():
        (ROOT / path).write_text(page())
