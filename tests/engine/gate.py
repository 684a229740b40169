"""What a package of the tests waits for while it is imported."""

from __future__ import annotations

import threading

opened = threading.Event()
