#!/usr/bin/env bash
# On the machine with the GPU, in the repository: the benchmark. It reaches no registry: what is missing beside torch
# and transformers comes from KIT, a directory of wheels by `make gpu-kit`. The tests of `make test-gpu` need OpenCV too,
# which alone is as large as a kit may be.
#   bench/gpu/run.sh KIT OUT
set -euo pipefail
kit=$1 out=$2
mkdir -p "$out"
python3 -m venv --system-site-packages /tmp/atelier-gpu
/tmp/atelier-gpu/bin/pip install --quiet --no-index --no-deps "$kit"/*.whl
PYTHONPATH=engines:models/tiny /tmp/atelier-gpu/bin/python -m bench.gpu --out "$out"
