"""What we send and read at OpenAI has the names and values of the SDK's own types."""

from __future__ import annotations

from typing import Any, get_args, get_origin, get_type_hints

from openai.types import ImageEditCompletedEvent, ImageGenCompletedEvent, ImagesResponse
from openai.types.image_edit_params import ImageEditParamsBase
from openai.types.image_generate_params import ImageGenerateParamsBase
from openai.types.images_response import Usage, UsageInputTokensDetails, UsageOutputTokensDetails
from pydantic import BaseModel

from atelier_engines.vendors.openai import usage
from atelier_engines.vendors.openai.config import Background, OpenaiConfig, Quality
from tests.vendors.openai.stand_in import FIELDS

PARAMS = {"generations": ImageGenerateParamsBase, "edits": ImageEditParamsBase}
RETIRED = {"standard", "hd"}
"""Qualities of DALL-E, which the SDK still lists."""


def values(kind: object) -> set[str]:
    """The texts that a type allows, however deep they stand in it."""
    if isinstance(kind, str):
        return {kind}
    return set().union(*map(values, get_args(kind))) if get_origin(kind) is not None else set()


def fields_of(params: type) -> dict[str, Any]:
    """The parameters of a request with their types, `stream` included, which has a type for each value."""
    return {**get_type_hints(params), "stream": bool}


def test_the_stand_in_takes_the_parameters_of_the_sdk_alone() -> None:
    """Files have brackets in their form, since there may be several."""
    for kind, params in PARAMS.items():
        assert {name.removesuffix("[]") for name in FIELDS[kind]} <= fields_of(params).keys()


def test_the_values_are_those_of_the_sdk() -> None:
    """Every one that it lists, but for those of retired models."""
    config = get_type_hints(OpenaiConfig)
    for params in PARAMS.values():
        listed = fields_of(params)
        assert values(listed["quality"]) - RETIRED == values(Quality)
        assert values(listed["background"]) == values(Background)
        assert values(config["output_format"]) == values(listed["output_format"]) - {"gif", "svg"}
    moderation = fields_of(ImageGenerateParamsBase)["moderation"]
    assert values(config["moderation"]) == values(moderation)


def test_the_usage_is_read_by_the_names_of_the_sdk() -> None:
    """Of whole responses, and of the last event of both kinds of streams."""
    for response in (ImagesResponse, ImageGenCompletedEvent, ImageEditCompletedEvent):
        assert names(usage._Response) <= names(response)
    assert names(usage._Usage) <= names(Usage)
    for details in (UsageInputTokensDetails, UsageOutputTokensDetails):
        assert names(usage._Details) <= names(details)


def names(model: type[BaseModel]) -> set[str]:
    """Names of its fields."""
    return set(model.model_fields)
