"""One seeded fault: a small wrong change, and the tests that have to notice it."""

from __future__ import annotations

from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]


class Fault(msgspec.Struct, frozen=True):
    """Replace `text` by `wrong` in `file`; at least one of `tests` has to fail then.

    `text` occurs exactly once. `tests` are files or test ids of pytest. `hangs` says that the fault shows as a test that
    never ends; `imports`, as an import that fails, which is else taken for a program that does not run.
    """

    name: str
    file: str
    text: str
    wrong: str
    tests: tuple[str, ...]
    hangs: bool = False
    imports: bool = False

    def applied(self, source: str) -> str:
        """Return the source of the file with the fault in it."""
        found = source.count(self.text)
        if found != 1:
            raise ValueError(
                f"fault {self.name}: expected its text once in {self.file}, found it {found} times; bring the fault up to date"
            )
        changed = source.replace(self.text, self.wrong)
        if self.file.endswith(".py"):
            compile(changed, self.file, "exec")
        return changed
