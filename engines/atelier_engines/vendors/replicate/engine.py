"""Runs tasks at Replicate: one prediction an image, cancelled there when the task is closed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue

from atelier_engines.errors import EngineFailedError, ModelMissingError
from atelier_engines.event import Event
from atelier_engines.task import ImageTask
from atelier_engines.vendors.client import AnyResponse, VendorClient, connect
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.engine import RemoteEngine
from atelier_engines.vendors.jobs import run_jobs
from atelier_engines.vendors.replicate.capabilities import build_capabilities
from atelier_engines.vendors.replicate.config import ReplicateConfig, TaskField
from atelier_engines.vendors.replicate.errors import find_retry_after, translate_error
from atelier_engines.vendors.replicate.fields import FieldMap, map_fields
from atelier_engines.vendors.replicate.model_schema import read_schema
from atelier_engines.vendors.replicate.predictions_api import ReplicateJobs

_RESPONSE_TIMEOUT_SECONDS = 60.0


class _Version(BaseModel):
    """A version of a model."""

    id: str
    openapi_schema: dict[str, JsonValue] = {}


class _Model(BaseModel):
    """A model."""

    model_config = ConfigDict(protected_namespaces=())

    is_official: bool | None = None
    """Whether it is run by its name; others are run by a version."""
    latest_version: _Version | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connection:
    """The service, and the model as it was at the start."""

    client: VendorClient
    fields: FieldMap
    version: str
    """Version to run; empty for an official model."""

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()


class ReplicateEngine(RemoteEngine[_Connection]):
    """One model at https://api.replicate.com; its inputs are those of its schema at the start."""

    name: ClassVar[str] = "replicate"

    def __init__(self, config: ReplicateConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet. `delay_scale` is a factor for every pause; tests make it small."""
        super().__init__(build_capabilities(config, None))
        self._config = config
        self._delay_scale = delay_scale
        self._inputs: dict[str, TaskField] = {}

    async def check(self) -> None:
        """See Engine.check. Asks for the account, which needs a valid token."""
        await self._connection.client.request("GET", "/v1/account", model=AnyResponse)

    async def _connect(self) -> _Connection:
        """Read the model's schema, and check the configuration against it.

        Raises:
            ModelMissingError: the model or its version does not exist, or does not fit the configuration.
            EngineUnavailableError: the service cannot be reached, or rejects the token.
        """
        client = self._make_client()
        try:
            version, by_name = await self._find_version(client)
            fields = map_fields(
                read_schema(self._config.model, version.openapi_schema), self._config
            )
        except BaseException:
            await client.close()
            raise
        self._inputs.update({one.name: field for field, one in fields.by_field.items()})
        self._capabilities = build_capabilities(self._config, fields, version.id)
        return _Connection(client=client, fields=fields, version="" if by_name else version.id)

    def _make_client(self) -> VendorClient:
        key = self._config.api_key.get_secret_value()
        secrets = (key, *(one.get_secret_value() for one in self._config.secret_inputs.values()))
        wait = self._config.wait_seconds
        return VendorClient(
            name=self.name,
            client=connect(
                self._config.base_url,
                headers={"authorization": f"Bearer {key}"},
                read_timeout_seconds=30.0 + wait,
            ),
            delay_scale=self._delay_scale,
            response_timeout_seconds=_RESPONSE_TIMEOUT_SECONDS + wait,
            translate_error=partial(translate_error, secrets=secrets, inputs=self._inputs),
            find_retry_after=find_retry_after,
        )

    async def _find_version(self, client: VendorClient) -> tuple[_Version, bool]:
        """The version whose schema counts, and whether the model is run by its name."""
        name, _, version = self._config.model.partition(":")
        try:
            if version:
                url = f"/v1/models/{name}/versions/{version}"
                return await client.request("GET", url, model=_Version), False
            found = await client.request("GET", f"/v1/models/{name}", model=_Model)
        except EngineFailedError as error:
            raise ModelMissingError(
                f"replicate has no model {self._config.model}, or the account may not use it"
            ) from error
        if found.latest_version is None:
            raise ModelMissingError(f"replicate's {name} has no version that could be run")
        return found.latest_version, bool(found.is_official)

    def _run_image(self, task: ImageTask) -> AsyncGenerator[Event]:
        connection = self._connection
        jobs = ReplicateJobs(
            client=connection.client,
            config=self._config,
            task=task,
            deadline=Deadline(self._config.timeout_seconds),
            fields=connection.fields,
            version=connection.version,
        )
        return run_jobs(jobs, poll_seconds=self._config.poll_seconds)
