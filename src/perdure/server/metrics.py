"""Counters of the server, as Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from typing import Final

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What the server has done since it started."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.streams = 0
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._refused: Counter[str] = Counter()

    def answered(self, method: str, path: str, status: int) -> None:
        """Count an answer; `path` is the route's, with names instead of parts."""
        self._requests[method, path, status] += 1

    def refused(self, code: str) -> None:
        """Count a token or a signature that was not taken."""
        self._refused[code] += 1

    def text(self) -> str:
        """Return all of them in Prometheus's text format."""
        lines = [
            "# HELP perdure_http_requests_total Answers by method, route and status.",
            "# TYPE perdure_http_requests_total counter",
            *(
                f'perdure_http_requests_total{{method="{method}",route="{path}",status="{status}"}} {count}'
                for (method, path, status), count in sorted(self._requests.items())
            ),
            "# HELP perdure_http_refused_tokens_total Tokens and signatures that were not taken, by the code of the refusal.",
            "# TYPE perdure_http_refused_tokens_total counter",
            *(f'perdure_http_refused_tokens_total{{code="{code}"}} {count}' for code, count in sorted(self._refused.items())),
            "# HELP perdure_http_requests_in_flight Requests under way, long polls and streams included.",
            "# TYPE perdure_http_requests_in_flight gauge",
            f"perdure_http_requests_in_flight {self.in_flight}",
            "# HELP perdure_http_streams Streams of events that are open.",
            "# TYPE perdure_http_streams gauge",
            f"perdure_http_streams {self.streams}",
            "",
        ]
        return "\n".join(lines)
