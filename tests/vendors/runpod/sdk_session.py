"""A session of RunPod's SDK, run by a Python that has it installed; prints the outcome as JSON."""

import json
import sys

import runpod
from runpod.endpoint import helpers


def main(api: str, endpoint_id: str, key: str, graph: str) -> None:
    """Run one job, cancel another, request the health, and use an invalid key."""
    runpod.endpoint_url_base = api  # where it speaks to is a constant of its own
    endpoint = runpod.Endpoint(endpoint_id, api_key=key)
    work = {"input": {"workflow": json.loads(graph)}, "policy": {"ttl": 60_000}}
    job = endpoint.run(work)
    states = [job.status()]
    while states[-1] not in {"COMPLETED", "FAILED"}:
        states.append(job.status())
    answer = {
        "states": states,
        "output": job.output(),
        "cancelled": endpoint.run(work).cancel()["status"],
        "health": endpoint.health(),
    }
    answer["final"] = [status for status in sys.argv[5].split() if helpers.is_completed(status)]
    try:
        runpod.Endpoint(endpoint_id, api_key="a-wrong-key").health()
    except RuntimeError as error:
        answer["refusal"] = str(error)
    sys.stdout.write(json.dumps(answer))


main(*sys.argv[1:5])
