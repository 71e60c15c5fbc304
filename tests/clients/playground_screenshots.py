"""Takes the images of docs/playground.md, with Node and Chromium.

`python -m tests.clients.playground_screenshots` writes them anew.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.clients.browser import BROWSER, NAMES, PLAYGROUND
from tests.conftest import ROOT, free_port, launch


def main() -> None:
    """Write them anew, from generations that run."""
    if BROWSER is None:
        sys.exit(f"none of {', '.join(NAMES)} is installed")
    with tempfile.TemporaryDirectory() as folder:
        address = f"127.0.0.1:{free_port()}"
        engines = {"sketch": {"type": "sketch"}, "tiny": {"type": "diffusion", "device": "cpu"}}
        server = launch(Path(folder), http=address, engines=engines, default_engine="tiny")
        try:
            arguments = [f"http://{address}/", BROWSER, str(ROOT / "docs")]
            command = ["node", "tests/screenshots.mjs", *arguments]
            subprocess.run(command, cwd=PLAYGROUND, check=True, timeout=500)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
