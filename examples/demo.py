"""`make demo`: starts a server, generates an image and speech over gRPC, and stops the server."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from atelier_client import AtelierError, Client, EngineState
from atelier_client.results import EngineHealth

ATELIER = Path(sys.executable).with_name("atelier")
OUT = Path("out")
LOG = OUT / "demo-server.log"
START_SECONDS = 600  # a slow machine takes minutes to load the first engine
REPORT_SECONDS = 15
STOP_SECONDS = 30
WORDS = "This heart was drawn by a small model, and this voice is another one."


def main() -> None:
    """Generate both, and stop the server in any case."""
    OUT.mkdir(exist_ok=True)
    address = free_address()
    server = start_server(address)
    image, audio = OUT / "demo.png", OUT / "demo.wav"
    try:
        engines = wait_for_engines(server, address)
        painter = "tiny" if "tiny" in engines else "sketch"
        generate("a red heart", "--engine", painter, "--server", address, "-o", image)
        speaker = "voice" if "voice" in engines else "sketch"
        generate(WORDS, "--audio", "--engine", speaker, "--server", address, "-o", audio)
    except (subprocess.CalledProcessError, TimeoutError, ChildProcessError) as error:
        tail = "\n".join(LOG.read_text().splitlines()[-20:])
        sys.exit(f"the demo failed: {error}\nlast lines of {LOG}:\n{tail}")
    finally:
        code = stop_server(server)
    if code != 0:
        sys.exit(f"the server exited with {code}: see {LOG}")
    print(f"The image is {image.resolve()}, the audio {audio.resolve()}")


def generate(prompt: str, *options: str | Path) -> None:
    """Run `atelier generate`."""
    subprocess.run([ATELIER, "generate", prompt, *options], check=True)  # noqa: S603 - our own program


def free_address() -> str:
    """A free address of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def start_server(address: str) -> subprocess.Popen[bytes]:
    """Start `atelier serve` with its log in a file."""
    serve = (
        ATELIER,
        "serve",
        "--listen",
        address,
        "--metrics",
        free_address(),
    )
    with LOG.open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own program
            (*serve, "--data-dir", OUT / "demo-data"), stdout=log, stderr=subprocess.STDOUT
        )


def wait_for_engines(server: subprocess.Popen[bytes], address: str) -> list[str]:
    """Wait until all engines are ready; return their names."""
    print("starting a server", flush=True)
    began = reported = time.monotonic()
    loading = "the server"
    while time.monotonic() < began + START_SECONDS:
        if server.poll() is not None:
            raise ChildProcessError(f"the server exited with {server.returncode}")
        engines = find_engines(address)
        for engine in engines.values():
            if engine.state is EngineState.UNAVAILABLE:
                raise ChildProcessError(
                    f"the engine {engine.engine} is unavailable: {engine.message}"
                )
        if engines and all(engine.state is EngineState.READY for engine in engines.values()):
            return list(engines)
        if engines:
            loading = describe_loading(engines)
        if time.monotonic() > reported + REPORT_SECONDS:
            reported = time.monotonic()
            print(f"waiting for {loading}: {reported - began:.0f} s", flush=True)
        time.sleep(0.2)
    raise TimeoutError(f"not ready after {START_SECONDS} s: {loading}")


def describe_loading(engines: dict[str, EngineHealth]) -> str:
    """The engines that are still loading."""
    names = [name for name, engine in engines.items() if engine.state is EngineState.LOADING]
    return f"engine {', '.join(names)}, which is loading" if names else "the server"


def find_engines(address: str) -> dict[str, EngineHealth]:
    """The health of each engine by name; empty while the server does not answer."""
    try:
        with Client(address) as client:
            return {engine.engine: engine for engine in client.health().engines}
    except AtelierError:
        return {}


def stop_server(server: subprocess.Popen[bytes]) -> int:
    """Stop the server, and return its exit status."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
    try:
        return server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()


main()
