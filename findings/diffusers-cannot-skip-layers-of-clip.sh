#!/usr/bin/env bash
# diffusers' `clip_skip` of Stable Diffusion fails with today's transformers, though pip installs the two together.
#
# `StableDiffusionPipeline.encode_prompt(clip_skip=1)` applies the last norm of the text encoder itself, and looks for
# it in `text_encoder.text_model`. transformers 5 has moved the parts of that model up into CLIPTextModel. Without
# `clip_skip` the same encoder works.
#
# Versions: diffusers 0.42.1, transformers 5.23.0, torch 2.15.0. Seen on 2026-11-28, with an untrained encoder:
#   clip_skip None: (1, 16, 8)
#   clip_skip 1: AttributeError: 'CLIPTextModel' object has no attribute 'text_model'
#
# What follows for Atelier: its text encoders return any hidden layer, with the last norm or without
# (atelier_engines/diffusion/runtimes/torch.py), and each layer is tested (tests/engines/diffusion/test_clip_skip.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install diffusers==0.42.1 transformers==5.23.0 torch==2.15.0 2>/dev/null # some GB, with CUDA's libraries

env/bin/python - 2>errors.txt <<'PYTHON' | tee seen.txt
import json
from pathlib import Path

from diffusers import StableDiffusionPipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "a"]
Path("vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
Path("merges.txt").write_text("#version: 0.2\n")
tokenizer = CLIPTokenizer("vocab.json", "merges.txt", model_max_length=16)
size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
tokens = {"vocab_size": 4, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
pipeline = StableDiffusionPipeline(
    vae=None,
    text_encoder=CLIPTextModel(CLIPTextConfig(**size, **tokens)),
    tokenizer=tokenizer,
    unet=None,
    scheduler=None,
    safety_checker=None,
    feature_extractor=None,
    requires_safety_checker=False,
)
for skip in (None, 1):
    try:
        found = pipeline.encode_prompt("a", "cpu", 1, False, clip_skip=skip)[0].shape
        print(f"clip_skip {skip}: {tuple(found)}")
    except AttributeError as error:
        print(f"clip_skip {skip}: AttributeError: {error}")
PYTHON
grep -qx "clip_skip None: (1, 16, 8)" seen.txt
grep -qx "clip_skip 1: AttributeError: 'CLIPTextModel' object has no attribute 'text_model'" seen.txt
