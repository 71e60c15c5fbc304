"""Tools of Stable Diffusion read in our files how they were made."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from atelier.v1 import task_pb2
from atelier.v1.generation_pb2 import Recipe
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask, Lora
from atelier_server.artifacts.encode import Encoder
from atelier_server.artifacts.provenance import build_provenance
from tests.artifacts.readers.session import needs_readers, run_session

FORMATS = {
    "webui": ("PNG", "JPEG", "WEBP", "AVIF"),
    "sd-prompt-reader": ("PNG", "JPEG", "WEBP"),
    "sd-parsers": ("PNG", "JPEG", "WEBP"),
}
"""By reader; the others know no AVIF."""
PROMPTS = {
    "plain": ("a lamp on a desk", "dust"),
    "other scripts": ("灯台とかもめ, маяк над морем, منارة على البحر", "霧, туман"),
    "emoji": ("🌊 a wave, 👩‍🎨 and 🇯🇵", "🌫️"),
    "lines": ("a lamp,\non a desk\n\nat night", "dust,\nfog"),
    "colons": ('(a lamp:1.2), 3:4, the words "open: all day", C:\\', "(dust:1.5), [fog::0.5]"),
    "settings": ("Steps: 20, Sampler: DDIM, CFG scale: 3, Seed: 1, Size: 8x8", "Steps: 5, Seed: 2"),
    "line of settings": ("a lamp\nSteps: 20, Sampler: DDIM, CFG scale: 3, Seed: 1", "a\nSteps: 5"),
    "no negative prompt": ("a lamp, Steps: 20\nSteps: 5", ""),
    "marks": ("a lamp. Negative prompt: none\nNegative prompt: fog", "Negative prompt: dust"),
    "marks alone": ("a lamp. Negative prompt: none", ""),
    "no prompt": ("", "dust"),
    "nothing": ("", ""),
}


def told_words(words: str) -> str:
    """The prompt as it stands in the metadata: marks of their structure, where it has them, have a space more."""
    return re.sub(r"(Negative prompt|\nSteps):", r"\1 :", words)


async def write_files(folder: Path, kinds: tuple[str, ...]) -> None:
    """One file of each kind for each prompt, named after them."""
    encoder = Encoder(metadata=True)
    pixels = Pixels(array=np.zeros((24, 16, 3), np.uint8))
    for name, (prompt, negative_prompt) in PROMPTS.items():
        task = ImageTask(
            prompt=prompt,
            negative_prompt=negative_prompt,
            width=16,
            height=24,
            seeds=(2**53 - 1,),
            steps=4,
            guidance=7.5,
            scheduler="euler_a",
            loras=(Lora(name="oil", weight=0.85),) if name == "plain" else (),
        )
        recipe, seed = Recipe(model="mine: v2, x"), task.seeds[0]
        describe = partial(build_provenance, "tiny", recipe, task, seed)
        for kind in kinds:
            image = task_pb2.ImageTask(format=task_pb2.ImageFormat.Value(f"IMAGE_FORMAT_{kind}"))
            made = await encoder.encode(pixels, GenerateRequest(image=image), describe)
            (folder / f"{name}.{kind.lower()}").write_bytes(made.data)
    encoder.close()


@needs_readers
@pytest.mark.parametrize("reader", FORMATS)
async def test_readers_find_prompts_and_settings(reader: str, tmp_path: Path) -> None:
    """Whatever the prompts contain, in every format that the reader knows."""
    await write_files(tmp_path, FORMATS[reader])
    told = await run_session("metadata_session.py", reader, tmp_path)
    lora = {"plain": " <lora:oil:0.85>"}
    assert told == {
        f"{name}.{kind.lower()}": {
            "prompt": told_words(prompt) + lora.get(name, ""),
            "negative_prompt": told_words(negative_prompt),
            "seed": str(2**53 - 1),
            "steps": "4",
            "size": "16x24",
        }
        for name, (prompt, negative_prompt) in PROMPTS.items()
        for kind in FORMATS[reader]
    }
