#!/usr/bin/env bash
# Runs the tests; on a bare clone, makes .venv and installs what they need first.
#
#   ./launch/test.sh                       the default run
#   ./launch/test.sh --all                 and the slow tests and external oracles
#   ./launch/test.sh tests/diffusion -x    what follows goes to pytest
#
# --all installs PyTorch. PyPI's Linux build brings several GB of CUDA; to avoid that:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu ./launch/test.sh --all
# --all runs the tests of web pages where Chromium is on PATH.
# Tests marked gpu run with IMAGEN_JAX_TEST_GPU=1 and --all, on a machine that has one.
set -euo pipefail

# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

extras=dev,quickstart,text,text-hf,parquet,raters,app
marks="not slow and not oracle and not gpu and not tpu and not tensorflow"
if [[ ${1:-} == --all ]]; then
  shift
  extras=dev,quickstart,text,text-hf,oracle,cloud,parquet,emulators,raters,app,browser,eval
  marks="not tensorflow"
fi

install_extras "$extras"
cd "$ROOT"
exec "$PYTHON" -m pytest -n 2 --dist=worksteal --durations=20 -m "$marks" "$@"
