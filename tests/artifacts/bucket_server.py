"""A real S3-compatible server, the Versity S3 gateway over a directory, on this machine."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import ROOT, free_port

VERSITYGW = ROOT / ".tools" / "bin" / "versitygw"
ACCESS_KEY_ID = "atelier"
SECRET_ACCESS_KEY = "a-secret-for-tests"  # noqa: S105 (of a server that only this machine reaches)
BUCKET = "media"
_START_SECONDS = 60.0


@dataclass(slots=True)
class BucketServer:
    """The server, its one bucket, and where it keeps the objects."""

    directory: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def settings(self) -> dict[str, object]:
        """The section `artifacts` of a configuration that uses it."""
        return {
            "type": "s3",
            "bucket": BUCKET,
            "endpoint": f"http://127.0.0.1:{self.port}",
            "access_key_id": ACCESS_KEY_ID,
            "secret_access_key": SECRET_ACCESS_KEY,
        }

    @property
    def bucket(self) -> Path:
        """The folder that is the bucket."""
        return self.directory / BUCKET

    def start(self) -> None:
        """Start it, on the same port and with the objects of an earlier start; or let it go on, if it is frozen."""
        if not VERSITYGW.exists():
            pytest.fail(f"there is no {VERSITYGW}: `make versitygw` builds it, with Go")
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            return
        self.bucket.mkdir(parents=True, exist_ok=True)
        command: Sequence[str | Path] = [
            *(VERSITYGW, "--port", f"127.0.0.1:{self.port}", "--health", "/health", "--quiet"),
            *("posix", self.directory),
        ]
        keys = {"ROOT_ACCESS_KEY": ACCESS_KEY_ID, "ROOT_SECRET_KEY": SECRET_ACCESS_KEY}
        variables = [f"{name}={value}" for name, value in keys.items()]
        self.process = subprocess.Popen(
            ["/usr/bin/env", *variables, *command], stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, "the S3 server ended"
            assert time.monotonic() < end, "the S3 server does not answer"
            time.sleep(0.02)

    def freeze(self) -> None:
        """Let it take connections, and answer nothing, until `start`."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def clear(self) -> None:
        """Delete all objects."""
        for entry in self.bucket.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def count_parts(self) -> int:
        """Files of multipart uploads that were begun and not ended."""
        return sum(path.is_file() for path in self.bucket.glob(".sgwtmp/multipart/**/*"))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False
