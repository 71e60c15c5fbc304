"""Stops jobs on a ComfyUI server, and says what became of them.

Source: ComfyUI 0.33.0, server.py (`/api/jobs/{job_id}/cancel`, `/queue`, `/interrupt`), execution.py (`PromptQueue`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import httpx2
from pydantic import ValidationError

from atelier_engines.closing import Stop
from atelier_engines.vendors.comfyui.schemas import History, QueueState

_TIMEOUT_SECONDS = 5.0
_ABSENT = frozenset({404, 405})
"""Statuses of servers without `/api/jobs`."""


async def stop_jobs(client: httpx2.AsyncClient, prompts: Sequence[str]) -> Mapping[str, Stop]:
    """Take the jobs out of the queue, or interrupt the one that runs, within a few seconds; raises nothing.

    What became of each: MAY_GO_ON if the server did not answer.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            for prompt in prompts:
                await _request_stop(client, prompt)
            queue = await _read_queue(client)
            return {prompt: await _what_became_of(client, queue, prompt) for prompt in prompts}
    except (httpx2.HTTPError, TimeoutError, ValidationError):
        return dict.fromkeys(prompts, Stop.MAY_GO_ON)


async def _request_stop(client: httpx2.AsyncClient, prompt: str) -> None:
    response = await client.post(f"/api/jobs/{prompt}/cancel")
    if response.status_code not in _ABSENT:
        response.raise_for_status()
        return
    # The job may start between the two requests, so it is taken out of the queue first.
    (await client.post("/queue", json={"delete": [prompt]})).raise_for_status()
    queue = await _read_queue(client)
    if queue.runs(prompt):  # very old servers ignore the id, and would stop another job
        (await client.post("/interrupt", json={"prompt_id": prompt})).raise_for_status()


async def _what_became_of(client: httpx2.AsyncClient, queue: QueueState, prompt: str) -> Stop:
    """By the queue, and by the history read after it: jobs move from the one to the other, and never back."""
    if queue.runs(prompt):
        return Stop.STOPPED  # at its next step
    if queue.position(prompt) is not None:
        return Stop.MAY_GO_ON
    response = await client.get(f"/history/{prompt}")
    response.raise_for_status()
    entry = History.model_validate_json(response.content).root.get(prompt)
    if entry is None:
        return Stop.NEVER_STARTED
    return Stop.ENDED if entry.status.succeeded else Stop.STOPPED


async def _read_queue(client: httpx2.AsyncClient) -> QueueState:
    response = await client.get("/queue")
    response.raise_for_status()
    return QueueState.model_validate_json(response.content)
