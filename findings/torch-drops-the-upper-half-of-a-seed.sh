#!/usr/bin/env bash
# On the CPU, torch draws the same numbers from two seeds that differ in their upper 32 bits alone.
#
# torch.Generator.manual_seed takes any integer of 64 bits, and initial_seed() returns it whole. But the generator of
# the CPU is a Mersenne Twister that is initialised with the lower 32 bits: seeds 7 and 7 + 2**32 give equal images.
# NumPy's MT19937, seeded with both halves as a key, tells them apart.
#
# Versions: torch 2.15.0, numpy 2.4.1. Seen on 2026-11-27:
#   torch 2.15.0: initial_seed 7 and 4294967303, equal numbers: True
#   numpy 2.4.1: equal numbers: False
#
# What follows for Atelier: from 2**32 on, both halves of a seed key the same Mersenne Twister; smaller seeds draw what
# torch draws (atelier_engines/diffusion/random_numbers.py, tests/engines/diffusion/test_seeds.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install torch==2.15.0 numpy==2.4.1 2>/dev/null  # some GB, with the CUDA libraries that torch loads

env/bin/python - <<'PYTHON' | tee seen.txt
import numpy
import torch

seeds = [7, 7 + 2**32]
generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
numbers = [torch.randn(8, generator=generator).tolist() for generator in generators]
initial = " and ".join(str(generator.initial_seed()) for generator in generators)
version = torch.__version__.partition("+")[0]
print(f"torch {version}: initial_seed {initial}, equal numbers: {numbers[0] == numbers[1]}")
keys = [numpy.array([seed % 2**32, seed >> 32], numpy.uint32) for seed in seeds]
numbers = [numpy.random.RandomState(key).standard_normal(8).tolist() for key in keys]
print(f"numpy {numpy.__version__}: equal numbers: {numbers[0] == numbers[1]}")
PYTHON
grep -qx "torch 2.15.0: initial_seed 7 and 4294967303, equal numbers: True" seen.txt
grep -qx "numpy 2.4.1: equal numbers: False" seen.txt
