"""`python -m examples.github_bot`."""

from __future__ import annotations

import sys

from examples.github_bot.cli import main

if __name__ == "__main__":
    sys.exit(main())
