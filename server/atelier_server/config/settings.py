"""The configuration as typed sections: every key with its default, its bounds and its description."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from string import Formatter
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from atelier_engines.addresses import Address
from atelier_engines.config import MAX_PAUSE_SECONDS, MAX_WAIT_SECONDS, Section
from atelier_server.config.artifact_settings import ArtifactSettings
from atelier_server.config.engine_settings import EngineSettings, Name, list_currencies
from atelier_server.config.limit_settings import LimitSettings
from atelier_server.config.log_settings import LogSettings
from atelier_server.config.routing_rules import RoutingRule
from atelier_server.config.security_settings import (
    AuthSettings,
    Origin,
    Tenant,
    TenantSettings,
    TlsSettings,
)
from atelier_server.config.store_settings import StoreSettings


class LoraRole(Enum):
    """The role of a LoRA in an image."""

    STYLE = "style"
    CHARACTER = "character"
    CINEMATIC = "cinematic"


class StyleLoraSettings(Section):
    """One LoRA of a style."""

    name: str = Field(description="A LoRA that the engine lists.")
    weight: float | None = Field(
        None,
        ge=-4,
        le=4,
        description="Weight; null computes it from the roles of all LoRAs of the task.",
    )
    role: LoraRole = Field(LoraRole.STYLE, description="Role, from which its weight is computed.")


class StyleSettings(Section):
    """One style, selected by `style` in an image task. Values of the request override its defaults."""

    title: str = Field("", description="Display name.")
    prompt_prefix: str = Field("", description="Text put before the prompt, unchanged.")
    prompt_suffix: str = Field("", description="Text put after the prompt, unchanged.")
    negative_prompt: str = Field("", description="Text added to the negative prompt.")
    loras: tuple[StyleLoraSettings, ...] = Field(
        (), description="LoRAs to apply, beside those of the request."
    )
    width: int | None = Field(None, ge=16, le=16384, description="Width if the request sets none.")
    height: int | None = Field(
        None, ge=16, le=16384, description="Height if the request sets none."
    )
    steps: int | None = Field(None, ge=1, le=1000, description="Steps if the request sets none.")
    guidance: float | None = Field(
        None, ge=0, le=100, description="Guidance if the request sets none."
    )


class ConceptLoraSettings(Section):
    """A LoRA that words in the prompt apply."""

    name: str = Field(min_length=1, max_length=256, description="Name of the LoRA at the engine.")
    weight: float = Field(1.0, ge=-4, le=4, description="Weight.")


class LoraSettings(Section):
    """Weights of LoRAs for which the request sets none, and LoRAs that words in the prompt apply."""

    character_weights: tuple[float, ...] = Field(
        (0.85, 0.75, 0.65),
        min_length=1,
        description="Weight of each character LoRA, for one, two, three or more of them.",
    )
    cinematic_weights: tuple[float, ...] = Field(
        (1.0, 0.95, 0.85, 0.75),
        min_length=1,
        description="Weight of a cinematic LoRA, for zero, one, two, three or more character LoRAs.",
    )
    concepts: dict[str, ConceptLoraSettings] = Field(
        default_factory=dict,
        description="LoRAs by the words of a prompt that apply them, in any case, where the engine lists them.",
    )


class ExportSettings(Section):
    """Copies of outputs under readable names. The server never deletes them."""

    directory: Path = Field(description="Directory of the copies.")
    template: str = Field(
        "{style_id}_{style_title}/generated_{utc}_{short_id}_{index}.{ext}",
        max_length=1024,
        description="Path of a copy in the directory, with the fields {style_id}, {style_title}, {engine}, {utc}, "
        "{id}, {short_id}, {request_id}, {index}, {seed} and {ext}. `/` begins a directory.",
    )

    sidecar: bool = Field(
        default=False,
        description="Write a JSON file beside each copy, under its name with `.json` added: the values that were used, "
        "the style with its title, times, engine, model, and the SHA-256 of the copy.",
    )

    @field_validator("template")
    @classmethod
    def _validate_template(cls, template: str) -> str:
        known = {
            "style_id",
            "style_title",
            "engine",
            "utc",
            "id",
            "short_id",
            "request_id",
            "index",
            "seed",
            "ext",
        }
        if not template.isprintable():
            raise ValueError("must not contain NUL or other control characters")
        if any(spec or conversion for _, _, spec, conversion in Formatter().parse(template)):
            raise ValueError("must have plain fields such as {id}, without `:` or `!`")
        used = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        if used - known:
            raise ValueError(
                f"unknown fields {', '.join(sorted(used - known))}; known are {', '.join(sorted(known))}"
            )
        if not used & {"id", "short_id"} or "index" not in used:
            raise ValueError(
                "must contain {id} or {short_id}, and {index}; otherwise outputs would overwrite each other"
            )
        if Path(template).is_absolute() or ".." in Path(template).parts:
            raise ValueError("must be a relative path without `..`")
        return template


class OutputSettings(Section):
    """How outputs are written."""

    metadata: bool = Field(
        default=True,
        description="Write prompts, seed, settings, model and versions into each file. "
        "Files that a remote service made are stored unchanged.",
    )


class Settings(Section):
    """Top level of the configuration."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"data": "data_dir", "filing": "export"}

    role: Literal["all", "gateway", "worker"] = Field(
        "all",
        description="What this server does. all: everything. gateway: answers calls, and loads no engine: `engines` is "
        "not read, and what can be done is what workers of the same database have registered. worker: runs engines and "
        "answers no calls, so `listen` and `http` are not opened, but `metrics` and `health_listen` are. The last two "
        "need `store.type: postgres` and `artifacts.type: s3`; see "
        "[Gateways and workers](operations.md#gateways-and-workers).",
    )
    listen: Address = Field(
        "127.0.0.1:50051",
        description="Address of the gRPC server: HOST:PORT, [IPV6]:PORT or unix:PATH; port 0 selects a free one.",
    )
    metrics: Address | None = Field(
        "127.0.0.1:9464",
        description="HTTP address of /metrics, /healthz and /readyz, as for `listen`; null disables it. "
        "A request has 10 s, and there are at most 32 at a time.",
    )
    http: Address | None = Field(
        None,
        description="Address, as for `listen`, where the same calls are answered over HTTP as Connect and gRPC-Web, "
        "for browsers, curl and clients without gRPC; null disables it. See [HTTP](http.md).",
    )
    http_origins: tuple[Origin, ...] = Field(
        (),
        description="Origins of web pages that browsers let call `http`, such as https://studio.example; `*` for all.",
    )
    playground: bool = Field(
        default=True,
        description="Show at `/` of `http` a page to try the engines in a browser. See [playground](playground.md).",
    )
    health_listen: Address | None = Field(
        None,
        description="Another address, as for `listen`, with grpc.health.v1 alone, without TLS and without keys: for "
        "probes; null disables it.",
    )
    scaler_listen: Address | None = Field(
        None,
        description="Another address, as for `listen`, with KEDA's externalscaler.ExternalScaler alone, by which it "
        "scales the servers; with the TLS of `tls`, and without keys, which KEDA cannot send; null disables it.",
    )
    tls: TlsSettings | None = Field(
        None, description="TLS of `listen` and `http`; null for plain text. See below."
    )
    auth: AuthSettings | None = Field(
        None,
        description="Who may call; null for everybody, who all are the tenant anonymous. See below.",
    )
    tenants: dict[Tenant, TenantSettings] = Field(
        default_factory=dict, description="What single tenants may use, by their names; see below."
    )
    tenant_defaults: TenantSettings = Field(
        default_factory=TenantSettings,
        description="What every tenant may use that `tenants` does not name; keys as there.",
    )
    reflection: Literal["callers", "everybody", "nobody"] = Field(
        "callers",
        description="Who may ask the server for its contract by reflection, as grpcurl does: callers by `auth`, "
        "everybody, or nobody.",
    )
    allow_insecure: bool = Field(
        default=False,
        description="Allow `listen` and `http` at addresses that other machines can reach without both TLS and callers "
        "that prove who they are, and `metrics` and `scaler_listen` at such an address.",
    )
    data_dir: Path = Field(
        Path("~/.local/share/atelier"),
        description="Directory of the database and the artifacts. Only one server may use it at a time.",
    )
    default_engine: Name | None = Field(
        None,
        description="Engine for tasks that name none; null selects the first one that is not a placeholder, such as "
        "sketch, and does not only speak. Where it makes no audio, or no images, such tasks go to the first engine "
        "that does; to a placeholder only if no other does.",
    )
    routing: Literal["default", "cheapest", "fastest"] = Field(
        "default",
        description="How an engine is selected for a task that names none. default: always the default engine; what it "
        "cannot do is refused with the names of engines that can. cheapest: the engine with the lowest estimated cost, "
        "where one without a price counts as free, also if its service bills; "
        "fastest: the one that such a task is expected to take the shortest time on, and one that has done none last. "
        "These two look at engines that are not down, have budget left and can do the task, and take the default "
        "engine if there is none. A placeholder, or an engine that only speaks, is selected only if it is named, or if "
        "there is nothing else.",
    )
    routing_rules: tuple[RoutingRule, ...] = Field(
        (),
        description="Rules that choose an engine or a style by the prompt, the first that matches before `routing`; "
        "the receipt says which one did. See below.",
    )
    engines: dict[Name, EngineSettings] = Field(
        description="Engines by name. Without this key: sketch, tiny (type diffusion) where the packages of the "
        "extra `local` are installed, and voice (type speech) where those of `speech` are."
    )
    testing: bool = Field(
        default=False,
        description="Replace every engine by a `sketch` of its name, for tests of what calls the server; settings of "
        "the engines' types, such as keys of services, are not read. `${TESTING:-false}` leaves it to the environment.",
    )
    models_dir: Path | None = Field(
        None,
        description="Directory in which names of weights are looked up first, and under which (`hub/`) downloads are "
        "kept; for every engine whose section has no `models_dir`. Null: the variable MODELS_DIR, if it is set.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads that one operation of a model on this machine may use, in all engines of the "
        "process. Null: half of the cores that the process may use, so that the service stays responsive.",
    )
    drain_seconds: float = Field(
        30,
        ge=0,
        le=MAX_WAIT_SECONDS,
        description="Seconds that running generations have to finish after SIGTERM before they are requeued.",
    )
    health_interval_seconds: float = Field(
        10, gt=0, le=MAX_PAUSE_SECONDS, description="Seconds between health checks of each engine."
    )
    styles: dict[Name, StyleSettings] = Field(
        default_factory=dict,
        description="Styles by id; see below. Without this key and `engines`: noto, the other style of tiny.",
    )
    export: ExportSettings | None = Field(
        None, description="Write copies of outputs under readable names; see below."
    )
    loras: LoraSettings = Field(default_factory=LoraSettings, description="See below.")
    outputs: OutputSettings = Field(default_factory=OutputSettings, description="See below.")
    store: StoreSettings = Field(default_factory=StoreSettings, description="See below.")
    artifacts: ArtifactSettings = Field(default_factory=ArtifactSettings, description="See below.")
    limits: LimitSettings = Field(default_factory=LimitSettings, description="See below.")
    log: LogSettings = Field(default_factory=LogSettings, description="See below.")

    @model_validator(mode="after")
    def _require_one_currency(self) -> Self:
        """Money of a tenant is added up over all engines."""
        limits = (self.tenant_defaults, *self.tenants.values())
        if all(each.daily_budget is None for each in limits):
            return self
        by_currency = {
            currency: name
            for name, engine in self.engines.items()
            for currency in list_currencies(engine.config)
        }
        if len(by_currency) > 1:
            prices = ", ".join(f"{code} ({name})" for code, name in sorted(by_currency.items()))
            raise ValueError(
                f"daily_budget of tenants adds up the cost of all engines, whose prices are in {prices}: state them in "
                "one currency, or limit each engine by its own daily_budget"
            )
        return self

    @model_validator(mode="after")
    def _require_shared_places(self) -> Self:
        """What one server accepts, another must find."""
        if self.role == "all":
            return self
        if self.store.type != "postgres":
            raise ValueError(
                f"role: {self.role} needs a database that several servers share: set store.type: postgres and store.dsn"
            )
        if self.artifacts.type != "s3":
            raise ValueError(
                f"role: {self.role} needs artifacts that every server can read: set artifacts.type: s3 and a bucket"
            )
        return self

    @model_validator(mode="after")
    def _require_certificates(self) -> Self:
        """Names in certificates prove nothing unless an authority has signed them."""
        shown = self.tls is not None and self.tls.client_certificates == "required"
        if self.auth is not None and self.auth.certificates and not shown:
            raise ValueError("auth.certificates needs tls.client_certificates: required")
        return self
