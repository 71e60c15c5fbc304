#!/bin/sh
# install.sh LOCK WHEELS: puts the server into /opt/atelier, exactly as locked. Both images are made so, and its test root.
set -eu
python3 -m venv /opt/atelier
/opt/atelier/bin/pip install --no-cache-dir --disable-pip-version-check --quiet --no-deps --require-hashes \
  --only-binary :all: --requirement "$1"
/opt/atelier/bin/pip install --no-cache-dir --disable-pip-version-check --quiet --no-deps --no-index "$2"/*.whl
/opt/atelier/bin/python -m compileall -q /opt/atelier/lib || true
/opt/atelier/bin/atelier --version
