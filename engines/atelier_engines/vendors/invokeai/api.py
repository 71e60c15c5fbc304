"""Client of an InvokeAI server: the requests that the engine makes, signed in where the server has users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar, Unpack

from pydantic import BaseModel, SecretStr

from atelier_engines.errors import EngineError, EngineFailedError, EngineUnavailableError
from atelier_engines.media import Encoded
from atelier_engines.task import JSON
from atelier_engines.vendors.client import RequestContent, VendorClient
from atelier_engines.vendors.invokeai.schemas import (
    Ack,
    Board,
    Boards,
    EnqueueResponse,
    ModelRecord,
    Models,
    QueueItem,
    QueueItems,
    QueueStatus,
    StylePreset,
    StylePresets,
    Token,
    UploadedFile,
)
from atelier_engines.vendors.responses import Response

ModelT = TypeVar("ModelT", bound=BaseModel)
ResultT = TypeVar("ResultT")
QUEUE = "default"
_QUEUE_PATH = f"/api/v1/queue/{QUEUE}"
_QUEUE_FULL_RETRY_SECONDS = 10.0
_UNAUTHORIZED, _NOT_FOUND = 401, 404


class _SignedOutError(EngineUnavailableError):
    """The token is missing or has expired."""


def translate_rejection(response: Response) -> EngineError | None:
    """Translate statuses that are specific to this server."""
    if response.status == _UNAUTHORIZED:
        return _SignedOutError("invokeai requires a sign-in; check email and password")
    if response.status == _NOT_FOUND:
        return EngineFailedError("invokeai does not have this: it was deleted, or is lost")
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvokeAiClient:
    """Client of one server. Every method raises EngineError; see `vendors.errors`."""

    vendor: VendorClient
    """HTTP client, with `translate_rejection`."""
    email: str | None = None
    """Account to sign in with; None for a server without users."""
    password: SecretStr | None = None
    """Password of the account."""

    @property
    def name(self) -> str:
        """Name of the service in error messages."""
        return self.vendor.name

    @property
    def token(self) -> str:
        """Token of the latest sign-in; empty before it."""
        authorization: str = self.vendor.client.headers.get("authorization", "")
        return authorization.removeprefix("Bearer ")

    async def sign_in(self) -> None:
        """Get a token for all later requests; does nothing for a server without users."""
        if self.email is None or self.password is None:
            return
        body: JSON = {
            "email": self.email,
            "password": self.password.get_secret_value(),
            "remember_me": False,
        }
        found = await self.vendor.request("POST", "/api/v1/auth/login", json=body, model=Token)
        self.vendor.client.headers["authorization"] = f"Bearer {found.token}"

    async def list_models(self) -> tuple[ModelRecord, ...]:
        """List all models of the server."""
        return (await self._request("GET", "/api/v2/models/", model=Models)).models

    async def list_style_presets(self) -> tuple[StylePreset, ...]:
        """List the style presets of the server; none if it is too old to have any."""
        try:
            found = await self._request("GET", "/api/v1/style_presets/", model=StylePresets)
        except EngineFailedError:
            return ()
        return found.root

    async def require_running(self) -> None:
        """Return if the queue's processor is running.

        Raises:
            EngineUnavailableError: the processor is paused, or the server cannot be reached.
        """
        status = await self._request("GET", f"{_QUEUE_PATH}/status", model=QueueStatus)
        if not status.processor.is_started:
            raise EngineUnavailableError("invokeai's queue is paused; resume its processor")

    async def find_board(self, name: str) -> Board:
        """Find the board of that name, or create it."""
        params: dict[str, str | int] = {"all": "true"}
        boards = await self._request("GET", "/api/v1/boards/", params=params, model=Boards)
        for board in boards.root:
            if board.board_name == name:
                return board
        return await self._submit_once(
            "POST", "/api/v1/boards/", params={"board_name": name}, model=Board
        )

    async def upload(self, png: bytes) -> str:
        """Upload an image and return its name on the server."""
        uploaded = await self._request(
            "POST",
            "/api/v1/images/upload",
            params={"image_category": "user", "is_intermediate": "true"},
            files=[("file", ("atelier.png", png, "image/png"))],
            model=UploadedFile,
        )
        return uploaded.image_name

    async def enqueue(self, batch: JSON, count: int) -> tuple[int, ...]:
        """Enqueue a batch of `count` images and return the ids of its items, in the order of the batch.

        Raises:
            EngineUnavailableError: the queue had no room for all of them; some may have been enqueued.
            EngineUncertainError: it is unknown whether the batch arrived.
        """
        response = await self._submit_once(
            "POST",
            f"{_QUEUE_PATH}/enqueue_batch",
            json={"batch": batch, "prepend": False},
            model=EnqueueResponse,
        )
        if len(response.item_ids) != count or response.enqueued != count:
            raise EngineUnavailableError(
                f"invokeai's queue had room for {response.enqueued} of {count} images",
                retry_after_seconds=_QUEUE_FULL_RETRY_SECONDS,
            )
        return tuple(sorted(response.item_ids))

    async def fetch_item(self, item_id: int) -> QueueItem:
        """Fetch the state of a queue item."""
        return await self._request("GET", f"{_QUEUE_PATH}/i/{item_id}", model=QueueItem)

    async def list_items(self, batch_id: str) -> tuple[QueueItem, ...]:
        """List the items of a batch whose destination is its own id; none if the server never got it, or deleted it."""
        params: dict[str, str | int] = {"destination": batch_id}
        found = await self._request(
            "GET", f"{_QUEUE_PATH}/list_all", params=params, model=QueueItems
        )
        return found.root

    async def cancel(self, batch_id: str) -> None:
        """Cancel all items of the batch that have not ended."""
        body: JSON = {"batch_ids": [batch_id]}
        await self._request("PUT", f"{_QUEUE_PATH}/cancel_by_batch_ids", json=body, model=Ack)

    async def fetch_image(self, name: str) -> Encoded:
        """Download an image."""
        return await self._with_sign_in(
            lambda: self.vendor.fetch(f"/api/v1/images/i/{name}/full", kinds=("image/",))
        )

    async def delete_image(self, name: str) -> None:
        """Delete an image."""
        await self._request("DELETE", f"/api/v1/images/i/{name}", model=Ack)

    async def _request(
        self, method: str, url: str, *, model: type[ModelT], **content: Unpack[RequestContent]
    ) -> ModelT:
        return await self._with_sign_in(
            lambda: self.vendor.request(method, url, model=model, **content)
        )

    async def _submit_once(
        self, method: str, url: str, *, model: type[ModelT], **content: Unpack[RequestContent]
    ) -> ModelT:
        return await self._with_sign_in(
            lambda: self.vendor.submit_once(method, url, model=model, **content)
        )

    async def _with_sign_in(self, send: Callable[[], Awaitable[ResultT]]) -> ResultT:
        try:
            return await send()
        except _SignedOutError:
            if self.email is None:
                raise
            await self.sign_in()
            return await send()
