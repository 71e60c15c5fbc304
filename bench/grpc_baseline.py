"""A minimal grpc.aio server to compare with: one unary method that returns bytes, with default settings.

`python -m bench.grpc_baseline BYTES` prints its port and serves until it is stopped.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
from grpc import aio

from atelier.v1.generation_pb2 import Generation, Output
from atelier.v1.generation_service_pb2 import GenerateRequest, GenerateResponse


async def _serve(output_bytes: int) -> None:
    data = bytes(output_bytes)

    async def generate(_request: object, _context: object) -> GenerateResponse:
        return GenerateResponse(generation=Generation(outputs=[Output(data=data)]))

    handler = grpc.unary_unary_rpc_method_handler(
        generate,
        request_deserializer=GenerateRequest.FromString,
        response_serializer=GenerateResponse.SerializeToString,
    )
    server = aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "atelier.v1.GenerationService", {"Generate": handler}
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
