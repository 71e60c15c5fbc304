"""The node classes of a ComfyUI server, as `GET /object_info` describes them.

Source: ComfyUI 0.33.0, server.py (`node_info`), comfy_api/latest/_io.py (`GET_NODE_INFO_V1`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, Field, JsonValue, RootModel

ANY_TYPE = "*"
_COMBO = "COMBO"
_DYNAMIC_PREFIX = "COMFY_"
"""Beginning of the types whose inputs, or whose own type, depend on other inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What one input takes."""

    type: str
    """INT, FLOAT, STRING, BOOLEAN, COMBO, or the type of a link: MODEL, IMAGE … or several, with commas between."""
    options: Mapping[str, JsonValue] = field(default_factory=dict)
    """Range, default and more."""
    choices: tuple[JsonValue, ...] | None = None
    """What a COMBO takes; None for other types, and where the server takes more than it lists."""

    @property
    def is_dynamic(self) -> bool:
        """Whether what it takes depends on other inputs."""
        return self.type.startswith(_DYNAMIC_PREFIX)


class NodeInputs(BaseModel):
    """Inputs of a node class, by name."""

    required: dict[str, JsonValue] = Field(default_factory=dict)
    optional: dict[str, JsonValue] = Field(default_factory=dict)


class NodeClass(BaseModel):
    """Description of one node class."""

    input: NodeInputs = Field(default_factory=NodeInputs)
    output: list[JsonValue] = Field(default_factory=list)
    """Types of the outputs, in order; a list of choices is a COMBO."""
    output_node: bool = False
    """Whether it can be the end of a workflow: it saves or shows something."""
    python_module: str = ""
    """Module that defines it: `nodes` and `comfy_extras.…` are ComfyUI's own."""

    def spec(self, name: str) -> InputSpec | None:
        """What the input of that name takes; None if there is no such input."""
        return _parse_spec(self.input.required.get(name, self.input.optional.get(name)))

    def choices(self, name: str) -> tuple[str, ...]:
        """Names among the choices of that input; empty if it is not a choice."""
        match self.input.required.get(name, self.input.optional.get(name)):
            case [list(names), *_] | [str(), {"options": list(names)}, *_]:
                return tuple(choice for choice in names if isinstance(choice, str))
            case _:
                return ()

    @property
    def output_types(self) -> tuple[str, ...]:
        """Types of the outputs, in order."""
        return tuple(one if isinstance(one, str) else _COMBO for one in self.output)

    @property
    def is_core(self) -> bool:
        """Whether it is ComfyUI's own, which ignores inputs that it does not list."""
        return self.python_module == "nodes" or self.python_module.startswith("comfy_extras.")


class ObjectInfo(RootModel[dict[str, NodeClass]]):
    """Response to GET /object_info: all node classes by name."""


def _parse_spec(raw: JsonValue) -> InputSpec | None:
    """Older servers send the list of choices itself, newer ones `COMBO` and an object with the list."""
    match raw:
        case [list(choices), dict(options), *_]:
            return InputSpec(type=_COMBO, options=options, choices=_closed(choices, options))
        case [list(choices), *_]:
            return InputSpec(type=_COMBO, choices=_closed(choices, {}))
        case [str(kind), dict(options), *_]:
            listed = options.get("options") if kind == _COMBO else None
            known = _closed(listed, options) if isinstance(listed, list) else None
            return InputSpec(type=kind, options=options, choices=known)
        case [str(kind), *_]:
            return InputSpec(type=kind)
        case _:
            return None


def _closed(
    choices: list[JsonValue], options: Mapping[str, JsonValue]
) -> tuple[JsonValue, ...] | None:
    """The choices; None where uploads and remote lists add others, which the node itself checks."""
    grows = any(key == "remote" or key.endswith("_upload") for key, on in options.items() if on)
    return None if grows else tuple(choices)
