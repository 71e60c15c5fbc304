"""Parses the values of options: sizes, sides, controls, LoRAs and options of an engine."""

from __future__ import annotations

import json
from pathlib import Path

import click

from atelier_client.enums import ControlType, LoraRole
from atelier_client.tasks import Lora, Outpaint

_CONTROL_TYPES = tuple(member.value for member in list(ControlType)[1:])
_SIDES = ("left", "top", "right", "bottom")
_ROLES = tuple(role.value for role in list(LoraRole)[1:])


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `512x768` or `512`, in pixels."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and (height or width).isdecimal()):
        raise click.BadParameter(f"{text!r} is not a size such as 512x768")
    return int(width), int(height or width)


def parse_outpaint(text: str) -> Outpaint:
    """`left=128,right=128`: pixels to add on each side."""
    sides: dict[str, int] = {}
    for part in text.split(","):
        side, _, pixels = part.strip().partition("=")
        if side not in _SIDES or side in sides or not pixels.isdecimal():
            known = ", ".join(_SIDES)
            raise click.BadParameter(f"{part!r} is not SIDE=PIXELS with a side of {known}")
        sides[side] = int(pixels)
    return Outpaint(**sides)


def parse_option(text: str) -> tuple[str, object]:
    """`KEY=VALUE`; the value is JSON, or plain text where it is not valid JSON."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def parse_control(text: str) -> tuple[ControlType, Path]:
    """`TYPE=FILE`; the file exists."""
    kind, _, name = text.partition("=")
    if kind not in _CONTROL_TYPES or not name:
        known = ", ".join(_CONTROL_TYPES)
        raise click.BadParameter(f"{text!r} is not TYPE=FILE with a type of {known}")
    path = Path(name).expanduser()  # the shell replaces no ~ after an equals sign
    if not path.is_file():
        raise click.BadParameter(f"there is no file {name!r}")
    return ControlType(kind), path


def parse_lora(text: str) -> Lora:
    """`NAME`, `NAME=WEIGHT`, `NAME:ROLE` or `NAME=WEIGHT:ROLE`; a name may have colons."""
    rest, colon, role = text.rpartition(":")
    if not (colon and role in _ROLES):
        rest, role = text, ""
    name, equals, weight = rest.rpartition("=") if "=" in rest else (rest, "", "")
    if not name:
        raise click.BadParameter(f"{text!r} is not NAME[=WEIGHT][:ROLE]")
    try:
        number = float(weight) if equals else None
    except ValueError:
        _, colon, wrong = weight.rpartition(":")
        told = (
            f"{wrong!r} is not a role: {', '.join(_ROLES)}"
            if colon
            else f"{weight!r} is not a number"
        )
        raise click.BadParameter(told) from None
    return Lora(name=name, weight=number, role=LoraRole(role or LoraRole.UNSPECIFIED))
