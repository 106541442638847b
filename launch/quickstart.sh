#!/usr/bin/env bash
# From a bare clone to pictures that follow their prompts, on a laptop's CPU.
#
#   ./launch/quickstart.sh                                  train, sample, score
#   ./launch/quickstart.sh "a panda on a blue background"   and draw this prompt
#   ./launch/quickstart.sh --smoke                          the same path in 2 minutes
#
# Draws 16 concepts on 4 coloured grounds, embeds the captions, trains a 64-pixel base
# stage and a 64 -> 256 super-resolution stage, samples 16 (concept, ground) pairs that
# were held out of training and scores the pictures. Everything goes to
# runs/quickstart/; running again goes on where it stopped. Flags for the seeds of a
# reference: --seed=N --run=DIR.
set -euo pipefail

# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

run=runs/quickstart
prompt=
seed=0
num=15
train_flags=()
sample_flags=()
prepare_flags=()
for argument in "$@"; do
  case $argument in
    --smoke)
      run=runs/smoke
      num=1
      train_flags=(--config.train.num_steps=4 --config.train.log_every=1
        --config.train.preview_every=4 --config.preview.count=4
        --config.preview.num_steps=2 --config.train.batch_size=4)
      sample_flags=(--steps=2)
      prepare_flags=(--variants=2)
      ;;
    --seed=*) seed=${argument#*=} ;;
    --run=*) run=${argument#*=} ;;
    -*) die "unknown flag $argument; known: --smoke, --seed=N, --run=DIR" ;;
    *) prompt=$argument ;;
  esac
done

install_extras quickstart
cd "$ROOT"
mkdir -p "$run"
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$ROOT/.cache/jax}

command() {
  "$PYTHON" -m "imagen_jax.$1" "${@:2}"
}

# Adds this call's wall and CPU seconds to what earlier calls on this run spent.
spend() {
  local user system
  read -r user system < <(times | tail -n 1 | tr 'ms' '  ' |
    awk '{print $1 * 60 + $2, $3 * 60 + $4}')
  echo "$SECONDS $user $system" >>"$run/spent.txt"
}

start=$SECONDS
trap 'SECONDS=$((SECONDS - start)); spend' EXIT

data=$run/data/openmoji/default/1.0.0
store=$run/store
if [[ ! -f $run/report.json ]]; then
  command prepare openmoji --set=default --data_dir="$run/data" "${prepare_flags[@]}"
  command embed --source="tfds:$data:train,held_out" --store="$store" --max_length=16
  for stage in base sr256; do
    command train --config="configs/quickstart_$stage.py" --workdir="$run/$stage" \
      --config.seed="$seed" --config.data.source="tfds:$data:train" \
      --config.data.store="$store" --config.preview.source="tfds:$data:held_out" \
      "${train_flags[@]}"
  done
  command sample --workdirs="$run/base,$run/sr256" --held_out_of=default \
    --num="$num" --samples="$run/samples" --out="$run/grid.png" --batch_size=48 \
    "${sample_flags[@]}"
  command upscale --workdir="$run/sr256" --source="tfds:$data:held_out" \
    --store="$store" --num=32 --probe="$run/sr_probe.npz" "${sample_flags[@]}"
  SECONDS=$((SECONDS - start))
  start=0
  spend
  : >"$run/spent.tmp"
  read -r minutes cpu_seconds < <(awk \
    '{wall += $1; cpu += $2 + $3} END {printf "%.2f %.0f\n", wall / 60, cpu}' \
    "$run/spent.txt")
  command evaluate quickstart --samples="$run/samples" --run="$run" \
    --reference=docs/quickstart/reference.json --minutes="$minutes" \
    --cpu_seconds="$cpu_seconds" --out="$run/report.json"
fi
if [[ -n $prompt ]]; then
  command sample --workdirs="$run/base,$run/sr256" --prompt="$prompt" --num=8 \
    --out="$run/prompt.png"
fi
echo "Pictures: $run/grid.png, $run/samples/; report: $run/report.json"
