"""Takes the certificate and the keys that somebody has made for this server alone, from a variable of the environment.

So a gateway that rents an instance gives them to the server on it (the engine `vastai`).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from atelier_server.config.configuration_files import ConfigurationError

VARIABLE = "ATELIER_ISSUED_CREDENTIALS"
"""The base 64 of a JSON object with the fields of `_Issued`."""
FOLDER = "credentials"
"""Where they are put, below the data directory."""


class _Issued(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: str
    """PEM."""
    key: str
    """Its private key, as PEM."""
    keys: Mapping[str, Any]
    """The content of a file of keys, which have no secrets."""


def use_issued_credentials(
    raw: Mapping[str, Any], variables: Mapping[str, str], data_dir: Path
) -> Mapping[str, Any]:
    """The configuration with `tls` and `auth` of the variable, if it is set; the files are written for the owner alone.

    Raises:
        ConfigurationError: the configuration has tls or auth, too; or the value has another form, or cannot be written.
    """
    value = variables.get(VARIABLE)
    if not value:
        return raw
    os.environ.pop(VARIABLE, None)  # for no program that the server starts
    if raw.keys() & {"tls", "auth"}:
        raise ConfigurationError(f"tls and auth cannot be set together with {VARIABLE}")
    try:
        issued = _Issued.model_validate_json(base64.b64decode(value, validate=True))
    except (ValueError, ValidationError):
        raise ConfigurationError(f"{VARIABLE}: not what the engine vastai makes") from None
    folder = data_dir.expanduser() / FOLDER
    contents = {
        "certificate": issued.certificate,
        "key": issued.key,
        "keys": json.dumps(dict(issued.keys)),
    }
    try:
        paths = {name: _write(folder / f"{name}.pem", text) for name, text in contents.items()}
    except OSError as error:
        raise ConfigurationError(f"{VARIABLE}: cannot write to the data directory") from error
    return {
        **raw,
        "tls": {"certificate": paths["certificate"], "key": paths["key"]},
        "auth": {"keys": {"file": paths["keys"]}},
    }


def _write(path: Path, text: str) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return str(path)
