#!/usr/bin/env bash
# Races imagen_jax against imagen-pytorch and diffusers on the CPU, one thread each.
#
#   ./benchmarks/race.sh            5 rounds of fp32 and of bf16
#   ./benchmarks/race.sh 9          9 rounds
#   ./benchmarks/race.sh 5 fp32     fp32 only
#   ./benchmarks/race.sh 0          makes the two environments and stops
#
# For each model, task and precision three workers start, warm up and take turns step by
# step, so that whatever else the machine does hits all alike (about 12 GB of memory).
# In bf16 the peers run under autocast and channels-last, their fastest on a CPU with
# bf16 instructions. On one without, PyTorch emulates bf16 slowly and the bf16 rows say
# little about the peers: compare fp32. The line above the table tells which CPU it was.
# Writes benchmarks/results/race.jsonl, one line per worker, and prints it as a table.
set -euo pipefail

# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/../launch/environment.sh"

rounds=${1:-5}
[[ $rounds =~ ^[0-9]+$ ]] ||
  die "the number of rounds is '$rounds'; give a whole number, 0 = set up only"
case ${2:-both} in
  both) dtypes=(fp32 bf16) ;;
  fp32 | bf16) dtypes=("$2") ;;
  *) die "the precision is '$2'; give fp32, bf16 or both" ;;
esac

peers=$ROOT/.venv-peers
peer_python=$peers/bin/python
here=$ROOT/benchmarks

# PyTorch first and by itself, so that a CPU build is taken where pip finds one.
# imagen-pytorch asks for torchvision, whose PyPI build is for CUDA and breaks on the CPU
# build of PyTorch: it is taken out again (peers/peer_common.py stands in for it).
install_peers() {
  if [[ -f $peers/.complete ]]; then
    return
  fi
  echo "Making $peers (some minutes)."
  "$PYTHON" -m venv "$peers"
  "$peer_python" -m pip install --quiet torch==2.13.0
  "$peer_python" -m pip install --quiet \
    torch==2.13.0 imagen-pytorch diffusers transformers
  "$peer_python" -m pip uninstall --quiet --yes torchvision
  touch "$peers/.complete"
}

install_extras quickstart
install_peers
if ((rounds == 0)); then
  exit
fi

export JAX_PLATFORMS=cpu
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$ROOT/.cache/jax}
results=$here/results/race.jsonl
mkdir -p "$here/results"
: >"$results.partial"
for model in base64 sr256; do
  for task in train sample; do
    for dtype in "${dtypes[@]}"; do
      echo "$model $task $dtype" >&2
      flags=(--model "$model" --dtype "$dtype" --threads 1 --serve)
      peer=("$peer_python" "$here/peers/peer_${task}_step.py" "${flags[@]}")
      if [[ $dtype == bf16 ]]; then
        peer+=(--channels-last)
      fi
      "$PYTHON" "$here/peers/pair.py" --rounds "$rounds" -- \
        "$PYTHON" "$here/${task}_step.py" "${flags[@]}" \
        ::: "${peer[@]}" --lib imagen-pytorch \
        ::: "${peer[@]}" --lib diffusers >>"$results.partial"
    done
  done
done
mv "$results.partial" "$results"
bf16=$(grep -m1 ^flags /proc/cpuinfo | grep -ow -e avx512_bf16 -e amx_bf16 | xargs) ||
  bf16=none
printf '%s; bf16 instructions: %s\n\n' \
  "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$bf16"
"$PYTHON" "$here/table.py" "$results"
