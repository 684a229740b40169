"""`python -m examples.order_approval`."""

from __future__ import annotations

import sys

from examples.order_approval.cli import main

if __name__ == "__main__":
    sys.exit(main())
