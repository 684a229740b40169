"""Restate's service in its own environment, for hypercorn: a handler of 4 steps."""

import restate

service = restate.Service("bench")


async def number(value: int) -> int:
    return value


@service.handler()
async def four(context: restate.Context, value: int) -> int:
    for step in range(4):
        await context.run_typed(f"step {step}", number, value=step)
    return value


app = restate.app([service])
