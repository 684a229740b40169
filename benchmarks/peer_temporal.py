"""Temporal's Python SDK in its own environment: `ADDRESS CLIENTS SECONDS WARM_UP`. Client and worker are one process beside the server."""

import asyncio
import os
import sys
from datetime import timedelta
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from benchmarks.loop import closed_loop, load_of, say

QUEUE = "bench"
TIMEOUT = timedelta(minutes=1)


@activity.defn
async def number(value: int) -> int:
    return value


@workflow.defn
class Four:
    @workflow.run
    async def run(self, value: int) -> int:
        for step in range(4):
            await workflow.execute_activity(number, step, start_to_close_timeout=TIMEOUT)
        return value


async def main() -> None:
    load = load_of(sys.argv)
    client = await Client.connect(sys.argv[1])

    async def call(value: int) -> None:
        await client.execute_workflow(Four.run, value, id=str(uuid4()), task_queue=QUEUE, request_eager_start=True)

    # Without the sandbox, which imports the workflow's modules again for each workflow.
    async with Worker(client, task_queue=QUEUE, workflows=[Four], activities=[number], workflow_runner=UnsandboxedWorkflowRunner()):
        result = await closed_loop(call, load)
    say(**result)


asyncio.run(main())
# The SDK's own threads outlive the loop, and now and then one of them aborts an interpreter that ends in the usual way.
os._exit(0)
