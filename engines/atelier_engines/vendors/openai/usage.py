"""Reads how many tokens a response says it took."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from atelier_engines.vendors.openai.token_prices import TokenUsage


class _Shape(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class _Details(_Shape):
    text_tokens: int
    image_tokens: int


class _Usage(_Shape):
    input_tokens: int
    output_tokens: int
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Response(_Shape):
    usage: _Usage | None = None


def read_usage(response: BaseModel) -> TokenUsage | None:
    """The tokens of a response or of a stream's last event; None if it does not tell them.

    The SDK does not validate what it reads, and services with the same API leave fields out. Without details every
    token of the result belongs to the image, and those of the request cannot be told apart.
    Source: `openai` 3.57.0, types/images_response.py, types/image_gen_completed_event.py.
    """
    try:
        usage = _Response.model_validate(response).usage
    except ValidationError:
        return None
    if usage is None:
        return None
    sent, made = usage.input_tokens_details, usage.output_tokens_details
    return TokenUsage(
        text_input=None if sent is None else sent.text_tokens,
        image_input=None if sent is None else sent.image_tokens,
        text_output=0 if made is None else made.text_tokens,
        image_output=usage.output_tokens if made is None else made.image_tokens,
    )
