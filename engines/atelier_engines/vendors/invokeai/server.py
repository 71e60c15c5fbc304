"""The calls of an InvokeAI server that the engine makes, each by name; signs in where that is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import SecretStr

from atelier_engines.errors import EngineError, EngineFailedError, EngineUnavailableError
from atelier_engines.media import Encoded
from atelier_engines.task import JSON
from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.invokeai.wire import (
    Board,
    Boards,
    Done,
    Enqueued,
    Image,
    Item,
    ModelRecord,
    Models,
    QueueStatus,
    Token,
)
from atelier_engines.vendors.responses import Response

ResultT = TypeVar("ResultT")
QUEUE = "default"
_QUEUE = f"/api/v1/queue/{QUEUE}"
_FULL_RETRY_SECONDS = 10.0
_SIGNED_OUT, _GONE = 401, 404


class _SignedOutError(EngineUnavailableError):
    """The token is missing or has expired."""


def refusal(answer: Response) -> EngineError | None:
    """What this server means by some statuses."""
    if answer.status == _SIGNED_OUT:
        return _SignedOutError("invokeai wants somebody to sign in; check email and password")
    if answer.status == _GONE:
        return EngineFailedError("invokeai does not have this any more: it was deleted, or is lost")
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server. Everything raises EngineError; see `vendors.errors`."""

    vendor: VendorClient
    """The connection, with `refusal`."""
    email: str | None = None
    """Whom to sign in as; None on a server without users."""
    password: SecretStr | None = None
    """Belongs to `email`."""

    @property
    def token(self) -> str:
        """The token of the latest sign-in; empty before it."""
        authorization: str = self.vendor.client.headers.get("authorization", "")
        return authorization.removeprefix("Bearer ")

    async def sign_in(self) -> None:
        """Get a token for all calls that follow; nothing on a server without users."""
        if self.email is None or self.password is None:
            return
        body: JSON = {
            "email": self.email,
            "password": self.password.get_secret_value(),
            "remember_me": False,
        }
        found = await self.vendor.request("POST", "/api/v1/auth/login", json=body, model=Token)
        self.vendor.client.headers["authorization"] = f"Bearer {found.token}"

    async def models(self) -> tuple[ModelRecord, ...]:
        """All models."""
        found = await self._signed_in(
            lambda: self.vendor.request("GET", "/api/v2/models/", model=Models)
        )
        return found.models

    async def require_working(self) -> None:
        """Return if the queue is being worked through.

        Raises:
            EngineUnavailableError: somebody has paused it, or the server can't be reached.
        """
        found = await self._signed_in(
            lambda: self.vendor.request("GET", f"{_QUEUE}/status", model=QueueStatus)
        )
        if not found.processor.is_started:
            raise EngineUnavailableError("invokeai's queue is paused; resume its processor")

    async def board_named(self, name: str) -> Board:
        """The board of that name, made if there is none."""
        boards = await self._signed_in(
            lambda: self.vendor.request(
                "GET", "/api/v1/boards/", params={"all": "true"}, model=Boards
            )
        )
        for board in boards.root:
            if board.board_name == name:
                return board
        return await self._signed_in(
            lambda: self.vendor.submit_once(
                "POST", "/api/v1/boards/", params={"board_name": name}, model=Board
            )
        )

    async def upload(self, png: bytes) -> str:
        """The name of the picture once it is there."""
        params = {"image_category": "user", "is_intermediate": "true"}
        files = [("file", ("atelier.png", png, "image/png"))]
        found = await self._signed_in(
            lambda: self.vendor.request(
                "POST", "/api/v1/images/upload", params=params, files=files, model=Image
            )
        )
        return found.image_name

    async def enqueue(self, batch: JSON, count: int) -> tuple[int, ...]:
        """Put a batch of `count` pictures into the queue; their numbers, in the order of the batch.

        Raises:
            EngineUnavailableError: the queue had no room for all; some may have been taken.
            EngineUncertainError: nobody knows whether the batch arrived.
        """
        body: JSON = {"batch": batch, "prepend": False}
        found = await self._signed_in(
            lambda: self.vendor.submit_once(
                "POST", f"{_QUEUE}/enqueue_batch", json=body, model=Enqueued
            )
        )
        if len(found.item_ids) != count or found.enqueued != count:
            raise EngineUnavailableError(
                f"invokeai's queue had room for {found.enqueued} of {count} pictures",
                retry_after_seconds=_FULL_RETRY_SECONDS,
            )
        return tuple(sorted(found.item_ids))

    async def item(self, item_id: int) -> Item:
        """A picture's state."""
        return await self._signed_in(
            lambda: self.vendor.request("GET", f"{_QUEUE}/i/{item_id}", model=Item)
        )

    async def cancel(self, batch_id: str) -> None:
        """End whatever of the batch has not ended; nobody else's."""
        await self._signed_in(
            lambda: self.vendor.request(
                "PUT", f"{_QUEUE}/cancel_by_batch_ids", json={"batch_ids": [batch_id]}, model=Done
            )
        )

    async def image(self, name: str) -> Encoded:
        """A picture's file."""
        return await self._signed_in(
            lambda: self.vendor.fetch(f"/api/v1/images/i/{name}/full", kinds=("image/",))
        )

    async def delete_image(self, name: str) -> None:
        """Remove a picture."""
        await self._signed_in(
            lambda: self.vendor.request("DELETE", f"/api/v1/images/i/{name}", model=Done)
        )

    async def _signed_in(self, ask: Callable[[], Awaitable[ResultT]]) -> ResultT:
        try:
            return await ask()
        except _SignedOutError:
            if self.email is None:
                raise
            await self.sign_in()
            return await ask()
