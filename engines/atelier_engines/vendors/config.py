"""Settings that engines of remote services share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from atelier_engines.addresses import Url
from atelier_engines.capabilities import Price
from atelier_engines.config import MAX_PAUSE_SECONDS, MAX_WAIT_SECONDS, Section
from atelier_engines.header_values import SecretToken
from atelier_engines.vendors.price import PriceConfig

ApiKey = SecretToken
"""An API key; the field that uses it names the usual environment variable."""
BaseUrl = Annotated[Url, Field(description="URL of the service.")]
"""URL that the paths of a service's API are relative to."""
MaxImages = Annotated[
    int, Field(ge=1, le=64, description="Maximum images in one task; each is one paid job.")
]
"""Limit of images in a task, each of them a job or a request of its own."""
Concurrency = Annotated[
    int, Field(ge=1, le=256, description="Maximum tasks at the service at once.")
]
"""Limit of tasks that are sent to a service at once."""
TimeoutSeconds = Annotated[
    float,
    Field(
        gt=0,
        le=MAX_WAIT_SECONDS,
        description="Maximum time of a task from its acceptance, its wait at the service included.",
    ),
]
"""Time limit of a task."""
PollSeconds = Annotated[
    float,
    Field(
        gt=0,
        le=MAX_PAUSE_SECONDS,
        description="Initial interval between two polls; it grows to five times that.",
    ),
]
"""Interval of engines that poll their jobs."""


class RemoteConfig(Section):
    """Settings of every engine that sends tasks to a remote service."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "deadline_seconds": "timeout_seconds",
        "max_count": "max_images",
    }

    price: PriceConfig | None = Field(
        default=None,
        description="Price to show and to count: amount, unit (image, megapixel, second), "
        "currency; free when null.",
    )
    max_images: MaxImages = 4
    concurrency: Concurrency = 2
    timeout_seconds: TimeoutSeconds = 300.0

    @property
    def listed_price(self) -> Price | None:
        """The price for the engine's capabilities; None means free."""
        return None if self.price is None else self.price.price()


class AccountConfig(Section):
    """Settings of every engine whose service has an account with an API key."""

    api_key: ApiKey
    base_url: BaseUrl


class JobsConfig(AccountConfig, RemoteConfig):
    """Settings of every engine that submits and polls jobs; see `vendors.jobs`."""

    max_images: MaxImages = Field(default=4, le=16)
    poll_seconds: PollSeconds = 0.5
