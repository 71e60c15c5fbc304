"""Works on claimed generations: has the engine do the task, logs what happens, keeps what it makes."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import assert_never

from atelier.v1.generation_pb2 import Output
from atelier_engines import event as engine_event
from atelier_engines.capabilities import CancelSupport
from atelier_engines.task import Task
from atelier_server.admission.inputs import InputLoader
from atelier_server.admission.resolve import Resolved, Resolver
from atelier_server.artifacts.artifact_store import ArtifactStore
from atelier_server.artifacts.encode import Encoder
from atelier_server.artifacts.provenance import build_provenance
from atelier_server.engines.supervisor import EngineSupervisor
from atelier_server.execution import receipt
from atelier_server.execution.attempt import Attempt
from atelier_server.execution.event_writer import EventWriter
from atelier_server.execution.finalize import AttemptFinalizer
from atelier_server.ids import random_seed
from atelier_server.logs import bind_fields
from atelier_server.store.protocol import Claim, ClaimLostError, Store

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0  # between attempts to read a store that can't be read


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worker:
    """Takes one generation after the other from an engine's queue."""

    supervisor: EngineSupervisor
    store: Store
    artifacts: ArtifactStore
    encoder: Encoder
    inputs: InputLoader
    resolver: Resolver
    finalizer: AttemptFinalizer

    async def run(self) -> None:
        """Work until cancelled; what is in hand then is given back to the queue."""
        while True:
            await self.supervisor.ready.wait()
            try:
                claim = await self.store.claim(self.supervisor.name)
            except Exception:  # noqa: BLE001 (the disk may be full, and have room again later)
                _log.exception("claim_failed", extra={"engine": self.supervisor.name})
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            with bind_fields(
                generation=claim.generation.id,
                request_id=claim.generation.request_id,
                tenant=claim.metadata.tenant,
                engine=self.supervisor.name,
                attempt=claim.attempt,
            ):
                await self._process(claim)

    async def _process(self, claim: Claim) -> None:
        try:
            with self.supervisor.count_running():
                await self._supervise(Attempt.start(claim))
        except ClaimLostError:
            _log.warning("claim_lost")
        except asyncio.CancelledError:
            goes_on = self.supervisor.capabilities.cancel is CancelSupport.NONE
            await self.store.release(claim, keep_remote_handle=goes_on)
            raise
        except Exception as error:  # noqa: BLE001 (one bad end must not be the worker's)
            _log.exception("result_not_recorded")
            await self.finalizer.fail_until_recorded(Attempt.start(claim), error)

    async def _supervise(self, attempt: Attempt) -> None:
        """Perform, until done, told to cancel, or out of time; then record the end."""
        claim = attempt.claim
        _log.info("generation_started")
        performing = asyncio.create_task(self._execute(attempt))
        cancelling = asyncio.create_task(self.store.wait_cancelled(claim))
        left = None if claim.deadline is None else max(0.0, claim.deadline - time.time())
        try:
            await asyncio.wait(
                [performing, cancelling], timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            performing.cancel()  # no effect when it is done
            cancelling.cancel()
            await asyncio.wait([performing, cancelling])
        if performing.cancelled():
            if cancelling.cancelled():
                await self.finalizer.fail(attempt, TimeoutError())
            else:
                await self.finalizer.cancel(attempt)
        elif (error := performing.exception()) is not None:
            await self.finalizer.fail(attempt, error)
        else:
            await self.finalizer.succeed(attempt)

    async def _execute(self, attempt: Attempt) -> None:
        """Have the engine do the task, and keep what it makes."""
        claim = attempt.claim
        attempt.timer.enter("prepare")
        resolved = await self._resolved(claim)
        attempt.generation.receipt.recipe.CopyFrom(
            receipt.build_recipe(self.supervisor, resolved.task)
        )
        task = replace(resolved.task, resume=claim.remote_handle)
        cached = False
        async with (
            EventWriter(self.store, claim) as journal,
            aclosing(self.supervisor.engine.run(task)) as events,
        ):
            async for event in events:
                match event:
                    case engine_event.Stage():
                        await journal.write(attempt.record_stage(event))
                    case engine_event.Dispatched():
                        await self.store.save_remote_handle(claim, event.handle)
                    case engine_event.Step():
                        await journal.write(attempt.record_step(event))
                    case engine_event.Output():
                        cached = event.cached
                        await self._store_output(attempt, event, task)
                    case _:
                        assert_never(event)
        attempt.generation.receipt.cached = cached
        cost = None if cached else receipt.estimate_cost(self.supervisor, resolved.task)
        if cost is not None:
            attempt.generation.receipt.cost.CopyFrom(cost)

    async def _resolved(self, claim: Claim) -> Resolved:
        pictures = await self.inputs.load(claim.request, claim.caller)
        return self.resolver.resolve(
            claim.request,
            self.supervisor.capabilities,
            pictures,
            drawn_seed=random_seed(claim.generation.id),
        )

    async def _store_output(
        self, attempt: Attempt, output: engine_event.Output, task: Task
    ) -> None:
        before = attempt.timer.stage
        attempt.timer.enter("encode")
        recipe = attempt.generation.receipt.recipe
        recipe.versions.update(output.weights)
        provenance = build_provenance(self.supervisor.name, recipe, task, output.seed)
        encoded = await self.encoder.encode(output.media, attempt.claim.request, provenance)
        outputs = attempt.generation.outputs
        artifact_id = f"{attempt.generation.id}-{attempt.claim.attempt}-{len(outputs)}"
        artifact = await self.artifacts.write_output(artifact_id, encoded)
        outputs.append(Output(artifact=artifact, seed=output.seed, flagged=output.flagged))
        attempt.timer.enter(before)
