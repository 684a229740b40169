"""`python -m examples.chat_agent`: a short conversation; run again, it goes on where it was."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import perdure
from examples.chat_agent.chat import Chat, Decision, Request, Say, app
from examples.world import FileWorld, in_world
from perdure.errors import PerdureError

CHAT: Final = "ann"
KEY: Final = f"chat:{CHAT}"
SCRIPT: Final = (
    "Hello there",
    "What is the weather in Oslo, and the weather in Paris?",
    "Tell me a riddle",
    "Please pay 30 to bob, and mail bob",
    "Thank you",
)
_LOOK_SECONDS: Final = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """Hold the conversation; return the exit status, 1 when the store cannot be used."""
    parser = argparse.ArgumentParser(prog="chat_agent", description=__doc__)
    parser.add_argument("text", nargs="*", help="what to say instead of the script")
    parser.add_argument("--store", default="sqlite:///chat-agent.db", metavar="URL", help="of the store (%(default)s)")
    parser.add_argument("--world", default="chat-agent-world.db", metavar="FILE", help="what has happened outside (%(default)s)")
    says = parser.add_mutually_exclusive_group()
    says.add_argument("--approve", dest="approved", action="store_const", const=True, help="say yes to what waits for a person")
    says.add_argument("--reject", dest="approved", action="store_const", const=False, help="say no to it")
    options = parser.parse_args(arguments)
    # Whoever repeats a message repeats its id, and gets the sealed reply: that is why the script can be run again.
    messages = {f"said-{uuid4()}": text for text in options.text} or {f"script-{number}": text for number, text in enumerate(SCRIPT, 1)}
    try:
        with FileWorld(options.world) as world, in_world(world):
            asyncio.run(converse(options.store, messages, approved=options.approved))
            print(f"Outside, in all runs: {counted(Counter(effect.what.split()[0] for effect in world.effects()))}")
    except PerdureError as error:
        sys.stderr.write(f"chat_agent: {error}\n")
        return 1
    except KeyboardInterrupt:
        print("stopped; run it again, it goes on")
    return 0


async def converse(url: str, messages: dict[str, str], *, approved: bool | None) -> None:
    """Say one message after another, until one waits for a person who does not answer in this run; then show how things stand.

    Args:
        url: of the store.
        messages: the texts by message id.
        approved: what the person says to dangerous calls; None: nothing.
    """
    async with perdure.open_store(url) as store, perdure.Engine(store, app) as engine:
        for id, text in messages.items():
            print(f"user   {text}")
            receipt = await engine.deliver(Say(CHAT, text), id=id)
            said = await reply_to(engine, Say(CHAT, text), id, approved=approved)
            if isinstance(said, Request):
                print(f"       waits until {said.until:%H:%M:%S} UTC for a person: {said.call}. Run it again with --approve or --reject.")
                break
            print(f"model  {said}{'  (accepted before)' if receipt.duplicate else ''}")
        state = await engine.query(Chat.state, key=KEY)
    print(f"\n{state.answered} messages answered, {state.lines} lines, tools used: {counted(Counter(state.tools))}")


async def reply_to(engine: perdure.Engine, message: Say, id: str, *, approved: bool | None) -> str | Request:
    """Return the reply to a message, or the request that it waits for when nobody answers that."""
    call = asyncio.ensure_future(engine.call(Chat.say, message, id=id))
    decided = set()
    while not call.done():
        await asyncio.wait({call}, timeout=_LOOK_SECONDS)
        request = (await engine.query(Chat.state, key=KEY)).waits_for
        if request is None or request.token in decided or call.done():
            continue
        if approved is None:
            call.cancel()
            return request
        await engine.complete_awakeable(request.token, Decision(approved, "you"))
        decided.add(request.token)
    return call.result()


def counted(what: Counter[str]) -> str:
    """Return counts for people."""
    return ", ".join(f"{name} {count}" for name, count in sorted(what.items())) or "nothing"


if __name__ == "__main__":
    sys.exit(main())
