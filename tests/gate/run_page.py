"""Run the ```python blocks of one page, from top to bottom, as one program: `python run_page.py PAGE`.

Every block goes on with the names of those before it. `await` may stand at the top of a block, as in `python -m asyncio`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
import types
from pathlib import Path

from tests.gate.pages import blocks


def main() -> None:
    page = Path(sys.argv[1])
    program = types.ModuleType("page")
    sys.modules["page"] = program  # what a block defines has to be found by its module's name
    for line, source in blocks(page.read_text()):
        tree = ast.parse("\n" * line + source, str(page))
        code = compile(tree, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, vars(program))
        if inspect.iscoroutine(result):
            asyncio.run(result)


if __name__ == "__main__":
    main()
