"""`python -m examples.order_versions`."""

from __future__ import annotations

import asyncio
import sys

from examples.order_versions.story import main

if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
