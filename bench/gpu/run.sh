#!/usr/bin/env bash
# On the machine with the GPU, in the repository: the tests of `make test-gpu`, then the benchmark. It reaches no registry:
# what is missing beside torch and transformers comes from KIT, a directory of wheels by `make gpu-kit`. OpenCV, which a
# few tests need, is as large as a kit may be: the machine has it, or those tests fail.
#   bench/gpu/run.sh KIT OUT
set -euo pipefail
kit=$1 out=$2
mkdir -p "$out"

# A folder, and no environment of its own: where python3 is itself of an environment, one on top would not see its torch.
packages=/tmp/atelier-gpu
python3 -m pip install --quiet --no-index --no-deps --upgrade --target "$packages" "$kit"/*.whl
export PYTHONPATH=$packages:clients/python:engines:models/tiny

# Warnings are errors in the versions that we pin; those of the machine have others.
tests=$(grep --recursive --files-with-matches --include='*.py' 'pytest\.mark\.gpu' tests)
python3 -m pytest -m gpu -W default -p no:cacheprovider --timeout 240 $tests 2>&1 | tee "$out/test-gpu.txt" \
	|| echo "some tests failed: see $out/test-gpu.txt"
python3 -m bench.gpu --out "$out"
