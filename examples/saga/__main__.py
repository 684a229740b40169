"""`python -m examples.saga`."""

from __future__ import annotations

import sys

from examples.saga.cli import main

if __name__ == "__main__":
    sys.exit(main())
