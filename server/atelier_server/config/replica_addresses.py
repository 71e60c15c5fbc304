"""Validates the addresses of an engine with several instances."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from atelier_engines.engine import EngineType
from atelier_server.config.error_messages import read_message, show_value


def expand_replicas(
    kind: EngineType[BaseModel], type_name: str, own: dict[str, object], replicas: object
) -> tuple[dict[str, object], tuple[str, ...], str]:
    """The settings with the first address, all addresses, and what is wrong with them; empty if nothing is.

    Args:
        kind: type of the engine.
        type_name: its name.
        own: the keys that belong to the type.
        replicas: the value of the key `replicas`.
    """
    key = kind.address_key
    if key is None:
        return own, (), f"the type {type_name} has no address of which there may be several"
    if key in own:
        return own, (), f"set either replicas or {key}"
    if not isinstance(replicas, Sequence) or isinstance(replicas, str) or not replicas:
        return own, (), f"must be a list of values for {key}"
    if len(set(map(str, replicas))) < len(replicas):
        return own, (), "names one address twice"
    addresses = []
    for address in replicas:
        given = {**own, key: address}
        try:
            addresses.append(str(getattr(kind.config.model_validate(given), key)))
        except ValidationError as error:
            wrong = [one for one in error.errors() if one["loc"][:1] == (key,)]
            if wrong:
                return own, (), f"{read_message(wrong[0])}{show_value(address)}"
    return {**own, key: replicas[0]}, tuple(addresses), ""
