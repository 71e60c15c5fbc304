"""Makes one clip with an audio engine and its real weights, and says whether it can be right.

python scripts/smoke_audio.py tangoflux --accept-license [--set model=DIRECTORY] [-o clip.wav]

The weights are downloaded if they are not on this machine. No server is started.
"""

import argparse
import asyncio
import sys
import time
import wave
from contextlib import aclosing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from atelier_engines import registry
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineError
from atelier_engines.event import Output
from atelier_engines.media import Samples
from atelier_engines.task import AudioTask

QUIETEST = 1e-3
"""Peak below which a clip counts as silent."""


def main(arguments: list[str]) -> None:
    """Make the clip, write it, and exit with an error if it is silent or has the wrong length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("type", help="type of the engine")
    parser.add_argument("--prompt", default="gentle rain on a tin roof")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--accept-license", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("-o", "--output", type=Path, default=Path("clip.wav"))
    options = parser.parse_args(arguments)
    if any("=" not in item for item in options.settings):
        parser.error("--set takes KEY=VALUE")
    settings = dict(item.split("=", 1) for item in options.settings)
    if options.accept_license:
        settings["accept_license"] = "true"
    engine = create_engine(options.type, settings)
    try:
        made = asyncio.run(make_clip(engine, options.prompt, options.seconds))
    except EngineError as error:
        sys.exit(f"error: {error}")
    write_wav(options.output, made)
    frames, peak = len(made.array), float(np.abs(made.array).max())
    print(f"{options.output}: {frames} frames at {made.sample_rate} Hz, peak {peak:.3f}")
    if frames != round(options.seconds * made.sample_rate) or not peak > QUIETEST:
        sys.exit("the clip has the wrong length, or is silent")


def create_engine(name: str, settings: dict[str, str]) -> Engine:
    """The engine of a type, with these settings; exits with what is wrong with them."""
    if name not in registry.engine_types():
        sys.exit(f"error: no engine type {name!r}; there are {', '.join(registry.engine_types())}")
    engine_type = registry.load(name)
    try:
        config = engine_type.config.model_validate(settings)
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        sys.exit(f"error: {'; '.join(wrong)}")
    return engine_type.create(config)


async def make_clip(engine: Engine, prompt: str, seconds: float) -> Samples:
    """Start the engine, make the clip with its defaults, and stop it; prints how long each takes."""
    began = time.monotonic()
    await engine.start()
    print(f"{engine.capabilities.description}\nloaded in {time.monotonic() - began:.1f} s")
    try:
        began = time.monotonic()
        async with aclosing(engine.run(default_task(engine, prompt, seconds))) as events:
            outputs = [event.media async for event in events if isinstance(event, Output)]
        print(f"made {seconds:g} s of audio in {time.monotonic() - began:.1f} s")
    finally:
        await engine.stop()
    (made,) = outputs
    if not isinstance(made, Samples):
        raise TypeError("the engine returns files, which are not decoded here")
    return made


def default_task(engine: Engine, prompt: str, seconds: float) -> AudioTask:
    """A task with the engine's defaults."""
    audio = engine.capabilities.audio
    if audio is None:
        sys.exit("the engine makes no audio")
    return AudioTask(
        prompt=prompt,
        duration_seconds=seconds,
        seed=1,
        sample_rate=audio.sample_rates[0],
        channels=audio.channels[0],
        steps=None if audio.steps is None else audio.steps.default,
        guidance=None if audio.guidance is None else audio.guidance.default,
    )


def write_wav(path: Path, made: Samples) -> None:
    """Write 16 bits a sample."""
    scaled: NDArray[np.int16] = np.rint(made.array * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(made.array.shape[1])
        file.setsampwidth(2)
        file.setframerate(made.sample_rate)
        file.writeframes(scaled.tobytes())


if __name__ == "__main__":
    main(sys.argv[1:])
