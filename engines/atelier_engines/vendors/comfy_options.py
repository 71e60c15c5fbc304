"""Options of tasks that run ComfyUI workflows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, Field

from atelier_engines.task import JSON
from atelier_engines.vendors.comfy_config import WorkflowConfig
from atelier_engines.workflows import Workflow, build_overrides_schema
from atelier_engines.workflows.request_overrides import OPTION, Changes


class WorkflowOptions(BaseModel):
    """Options of engines that run workflows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    overrides: Changes | None = Field(
        default=None,
        description="Changes to the workflow: values by node, `inputs` and input.",
    )


def limit_overrides(
    schema: Mapping[str, JSON], workflows: Iterable[Workflow], config: WorkflowConfig
) -> dict[str, JSON]:
    """The options schema with those overrides alone that the engine is configured to allow; with none, without them."""
    properties = schema["properties"]
    if not isinstance(properties, Mapping):
        raise TypeError("the schema has no properties")
    others = {name: value for name, value in properties.items() if name != OPTION}
    if config.request_overrides:
        others[OPTION] = build_overrides_schema(workflows, config.request_overrides)
    return {**schema, "properties": others}
