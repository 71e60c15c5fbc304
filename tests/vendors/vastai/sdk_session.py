"""A session of Vast.ai's SDK, run by a Python that has it installed; prints the outcome as JSON."""

import dataclasses
import json
import sys

from vastai import VastAI
from vastai.api.instances import build_create_instance_payload
from vastai.api.query import offers_fields
from vastai.data.instance import CreateInstanceResponse, Instance, InstanceConfig
from vastai.data.offer import Offer


def main(api: str, key: str, query: str, env: str) -> None:
    """Search, rent, look three times, list and destroy; and print the names that the SDK uses."""
    client = VastAI(api_key=key, server_url=api, retry=1, quiet=True)
    offers = client.search_offers(query=query, order="dph", limit=20, storage=40)
    chosen = offers[0]["id"]
    created = client.create_instance(
        chosen, image="atelier:1", disk=40, label="tests/1", env=env, runtype="args", args=["serve"]
    )
    number = created["new_contract"]
    told = {
        "offers": [offer["id"] for offer in offers],
        "created": created,
        "states": [client.show_instance(number)["actual_status"] for _ in range(3)],
        "listed": [one["id"] for one in client.show_instances()],
        "destroyed": client.destroy_instance(number),
        "names": name_everything(),
    }
    sys.stdout.write(json.dumps(told))


def name_everything() -> dict[str, list[str]]:
    """Names of filters and fields."""
    order = build_create_instance_payload(image="atelier:1", runtype="args", args=["serve"])
    return {
        "filters": sorted(offers_fields),
        "order": sorted({*order, *names_of(InstanceConfig)}),
        "offer": names_of(Offer),
        "created": names_of(CreateInstanceResponse),
        "instance": names_of(Instance),
    }


def names_of(kind: type) -> list[str]:
    """Names of a dataclass' fields."""
    return [one.name for one in dataclasses.fields(kind)]


main(*sys.argv[1:])
