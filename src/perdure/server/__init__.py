"""The HTTP server: every route of Perdure, on the event loop of an engine.

`async with perdure.server.serving(engine) as server:` in a program of one's own, `perdure serve` otherwise.
"""

from perdure.server.config import Config, load_config
from perdure.server.serving import Server, serving

__all__ = ["Config", "Server", "load_config", "serving"]
