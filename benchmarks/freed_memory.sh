#!/usr/bin/env bash
# What it costs to give memory back between training steps, for us and for a peer.
#
#   ./benchmarks/freed_memory.sh       5 rounds; needs 19 GB, and race.sh's environments
#
# Each library trains base64 in fp32, once with glibc's defaults, once with freed memory
# kept (`imagen_jax/host_memory.py`). All four workers take turns, as in `race.sh`.
# Writes benchmarks/results/freed_memory.jsonl, one line per worker, and prints times.
set -euo pipefail

# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/../launch/environment.sh"
find_environment
here=$ROOT/benchmarks
results=$here/results/freed_memory.jsonl
export JAX_PLATFORMS=cpu
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$ROOT/.cache/jax}

flags=(--model base64 --dtype fp32 --threads 1 --serve)
ours=("$PYTHON" "$here/train_step.py" "${flags[@]}")
peer=("$ROOT/.venv-peers/bin/python" "$here/peers/peer_train_step.py" "${flags[@]}"
  --lib imagen-pytorch)
kept=(MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184)
"$PYTHON" "$here/peers/pair.py" --rounds "${1:-5}" -- \
  "${ours[@]}" ::: "${ours[@]}" --return_memory \
  ::: "${peer[@]}" ::: env "${kept[@]}" "${peer[@]}" >"$results.partial"
mv "$results.partial" "$results"
"$PYTHON" - "$results" <<'END'
import json, sys

names = ("imagen_jax, kept", "imagen_jax, returned", "imagen-pytorch", "same, kept")
for name, line in zip(names, open(sys.argv[1]), strict=True):
    row = json.loads(line)
    print(f"{name}: {row['median_cpu_s']} CPU s a step, {row['peak_rss_mb']} MB")
END
