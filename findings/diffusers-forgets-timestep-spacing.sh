#!/usr/bin/env bash
# `timestep_spacing` is accepted by diffusers' samplers and has no effect in some: which ones depends on the sigmas.
#
# With Karras sigmas, Euler and Heun begin where the spacing says, and DPM++ (multistep) and UniPC begin at the last training
# step whatever it says. LCM and TCD document the setting too, and never read it. So the same configuration gives the noise
# levels that a model was distilled for, or others, by the choice of the sampler alone; no warning is given.
#
# Versions: diffusers 0.42.1, torch 2.15.0. Seen on 2026-11-28 (first timestep of four, for linspace, leading, trailing):
#   EulerDiscreteScheduler: 999, 750, 999
#   EulerDiscreteScheduler, Karras: 999, 750, 999
#   HeunDiscreteScheduler, Karras: 999, 750, 999
#   DPMSolverMultistepScheduler: 999, 800, 999
#   DPMSolverMultistepScheduler, Karras: 999, 999, 999
#   UniPCMultistepScheduler, Karras: 999, 999, 999
#   LCMScheduler: 999, 999, 999
#   TCDScheduler: 999, 999, 999
#
# What follows for Atelier: the option `timestep_spacing` is tried when it is asked for, and refused by name with a sampler
# that it does not change (tests/engines/diffusion/test_schedulers.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install diffusers==0.42.1 torch==2.15.0 2>/dev/null

env/bin/python - 2>/dev/null <<'PYTHON' | tee seen.txt
import diffusers

CASES = [
    ("EulerDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("HeunDiscreteScheduler", {"use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("UniPCMultistepScheduler", {"use_karras_sigmas": True}),
    ("LCMScheduler", {}),
    ("TCDScheduler", {}),
]
for name, sigmas in CASES:
    first = []
    for spacing in ("linspace", "leading", "trailing"):
        scheduler = getattr(diffusers, name)(timestep_spacing=spacing, **sigmas)
        scheduler.set_timesteps(4)
        first.append(f"{scheduler.timesteps[0]:.0f}")
    print(name + ", Karras" * bool(sigmas) + ": " + ", ".join(first))
PYTHON
diff seen.txt - <<'SEEN'
EulerDiscreteScheduler: 999, 750, 999
EulerDiscreteScheduler, Karras: 999, 750, 999
HeunDiscreteScheduler, Karras: 999, 750, 999
DPMSolverMultistepScheduler: 999, 800, 999
DPMSolverMultistepScheduler, Karras: 999, 999, 999
UniPCMultistepScheduler, Karras: 999, 999, 999
LCMScheduler: 999, 999, 999
TCDScheduler: 999, 999, 999
SEEN
