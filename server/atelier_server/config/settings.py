"""The shape of the configuration, with every default."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SerializeAsAny, field_validator

from atelier_engines.config import Section

Address = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\s]+):\d{1,5}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class BreakerSettings(Section):
    """When to stop asking an engine that keeps failing."""

    faults: int = Field(5, ge=1, description="So many faults in a row make it rest.")
    rest_seconds: float = Field(30, ge=0, description="How long it rests before it is tried again.")


class EngineSettings(Section):
    """One engine. Keys beside these belong to the engine's type."""

    type: str = Field(description="Type of the engine, as an installed package registers it.")
    fallbacks: tuple[Name, ...] = Field(
        (),
        description="Engines that take over, in order, when this one fails and trying again can do no harm.",
    )
    queue_limit: int = Field(1000, ge=1, description="Most generations that may wait for it.")
    daily_budget: float | None = Field(
        None,
        ge=0,
        description="Most money to spend on it between two midnights UTC, in the currency of its price.",
    )
    cache_bytes: int = Field(
        0,
        ge=0,
        description="Most bytes of results to keep in memory, to give again for equal tasks; 0 keeps none. "
        "Only for engines whose results repeat: of others none are kept, and the log warns.",
    )
    breaker: BreakerSettings = Field(
        default_factory=BreakerSettings, description="When to stop asking it; see below."
    )
    config: SerializeAsAny[BaseModel] = Field(description="The type's own settings.", exclude=True)


class LoraRole(Enum):
    """What a LoRA is for."""

    STYLE = "style"
    CHARACTER = "character"
    CINEMATIC = "cinematic"


class StyleLoraSettings(Section):
    """One LoRA of a style."""

    name: str = Field(description="A name that the engine lists.")
    weight: float | None = Field(
        None,
        ge=-4,
        le=4,
        description="Its weight; computed from its role and the others when null.",
    )
    role: LoraRole = Field(LoraRole.STYLE, description="What it is for.")


class StyleSettings(Section):
    """One style, chosen by `style` in an image task. What the caller says wins over its defaults."""

    title: str = Field("", description="Name for people.")
    prompt_prefix: str = Field("", description="Put before the prompt, as it is.")
    prompt_suffix: str = Field("", description="Put after the prompt, as it is.")
    negative_prompt: str = Field("", description="Added to the negative prompt.")
    loras: tuple[StyleLoraSettings, ...] = Field((), description="LoRAs to apply.")
    width: int | None = Field(None, ge=16, description="Width when the caller says nothing.")
    height: int | None = Field(None, ge=16, description="Height when the caller says nothing.")
    steps: int | None = Field(None, ge=1, description="Steps when the caller says nothing.")
    guidance: float | None = Field(None, ge=0, description="Guidance when the caller says nothing.")


class LoraSettings(Section):
    """Weights of LoRAs whose weight the caller leaves open."""

    character_weights: tuple[float, ...] = Field(
        (0.85, 0.75, 0.65),
        min_length=1,
        description="Of each character, for one, two, three or more characters.",
    )
    cinematic_weights: tuple[float, ...] = Field(
        (1.0, 0.95, 0.85, 0.75),
        min_length=1,
        description="Of the cinematic one, for no, one, two, three or more characters.",
    )


class ExportSettings(Section):
    """Outputs filed a second time, under names that people read; these copies are never cleaned up."""

    directory: Path = Field(description="Where.")
    template: str = Field(
        "{style_id}_{style_title}/generated_{utc}_{short_id}_{index}.{ext}",
        description="Path below it, made of {style_id}, {style_title}, {engine}, {utc}, {id}, {short_id}, "
        "{index}, {seed} and {ext}.",
    )

    @field_validator("template")
    @classmethod
    def _known_fields(cls, template: str) -> str:
        known = {
            "style_id",
            "style_title",
            "engine",
            "utc",
            "id",
            "short_id",
            "index",
            "seed",
            "ext",
        }
        used = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        if used - known:
            raise ValueError(
                f"knows no {', '.join(sorted(used - known))}; only {', '.join(sorted(known))}"
            )
        if not used & {"id", "short_id"} or "index" not in used:
            raise ValueError(
                "needs {id} or {short_id}, and {index}, or outputs would replace each other"
            )
        if Path(template).is_absolute() or ".." in Path(template).parts:
            raise ValueError("must stay below the directory")
        return template


class OutputSettings(Section):
    """What is made of outputs."""

    metadata: bool = Field(
        default=True,
        description="Write into each picture's file how it was made: prompts, seed, settings, model, versions. "
        "Files that a vendor made are passed on as they are.",
    )


class StoreSettings(Section):
    """Where generations are kept, and how long."""

    time_to_live_seconds: float = Field(
        86400, gt=0, description="How long ended generations, their outputs and uploads are kept."
    )
    max_attempts: int = Field(
        3, ge=1, description="How often a generation is taken up again after the server died."
    )
    synchronous: Literal["NORMAL", "FULL"] = Field(
        "NORMAL",
        description="NORMAL survives the death of the server; FULL also that of the machine, at a disk flush a write.",
    )


class LimitSettings(Section):
    """What a caller may send, and get at once."""

    message_bytes: int = Field(
        16 * 2**20, ge=2**16, description="Largest message a caller may send."
    )
    inline_bytes: int = Field(
        2 * 2**20,
        ge=0,
        description="Most bytes of outputs in one answer when they are asked for inline.",
    )
    upload_bytes: int = Field(
        256 * 2**20, ge=1, description="Largest artifact that may be uploaded."
    )
    input_pixels: int = Field(
        64 * 10**6, ge=1, description="Most pixels a picture that is sent in may have."
    )
    concurrent_streams: int = Field(1024, ge=1, description="Most calls at once on one connection.")


class LogSettings(Section):
    """How the server logs."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )
    format: Literal["json", "console"] = Field(
        "json", description="json for machines, console for people."
    )


class Settings(Section):
    """The whole configuration."""

    listen: Address = Field(
        "127.0.0.1:50051", description="Where gRPC is served; port 0 takes a free one."
    )
    metrics: Address | None = Field(
        "127.0.0.1:9464",
        description="Where /metrics, /healthz and /readyz are served over HTTP; null for nowhere.",
    )
    allow_insecure: bool = Field(
        default=False,
        description="Serve without TLS and without keys on addresses that other machines can reach.",
    )
    data: Path = Field(
        Path("~/.local/share/atelier"),
        description="Directory of generations and artifacts; one server at a time.",
    )
    default_engine: Name | None = Field(
        None,
        description="Engine of tasks that name none and that no other engine can do; the first one when null.",
    )
    engines: dict[Name, EngineSettings] = Field(
        description="The engines by name. tiny (diffusion) and sketch when the key is absent."
    )
    drain_seconds: float = Field(
        30,
        ge=0,
        description="How long running work may go on after SIGTERM before it is given back to the queue.",
    )
    health_interval_seconds: float = Field(
        10, gt=0, description="Time between checks of each engine."
    )
    styles: dict[Name, StyleSettings] = Field(
        default_factory=dict, description="The styles by id; see below."
    )
    filing: ExportSettings | None = Field(
        None, description="File outputs a second time under readable names; see below."
    )
    loras: LoraSettings = Field(default_factory=LoraSettings, description="See below.")
    outputs: OutputSettings = Field(default_factory=OutputSettings, description="See below.")
    store: StoreSettings = Field(default_factory=StoreSettings, description="See below.")
    limits: LimitSettings = Field(default_factory=LimitSettings, description="See below.")
    log: LogSettings = Field(default_factory=LogSettings, description="See below.")

    @field_validator("data")
    @classmethod
    def _expand_home(cls, data: Path) -> Path:
        return data.expanduser()
