"""What gRPC writes beside the log, by the variable of the environment that it reads."""

from __future__ import annotations

import os


def quieten_grpc() -> None:
    """Let gRPC write errors alone on stderr, unless `GRPC_VERBOSITY` is set; it reads it when it is imported.

    Else it writes a line, in no form of ours, for each connection to a port of TLS that speaks none.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
