"""The engine's end of the sockets, against another end that does not keep to what was agreed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest

from perdure import limits
from perdure.engine.apart.channel import Channel, ChildGone
from perdure.engine.apart.frames import DropAlarm, Stop, framed


async def test_one_that_sends_without_end_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "APART_CALL_SECONDS", 0.1)
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    here, there = socket.socketpair()

    def floods() -> None:
        with there, contextlib.suppress(OSError):
            while True:
                there.sendall(framed(DropAlarm(alarm=1)))

    other = threading.Thread(target=floods)
    other.start()
    channel = Channel(here, asyncio.get_running_loop(), heard=lambda _: None, ended=ended.set_result)

    with pytest.raises(ChildGone):
        channel.call(Stop())

    assert await ended == "it has not answered within 0.1 s"
    other.join()
