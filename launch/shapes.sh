#!/usr/bin/env bash
# Trains on the shapes set and checks by rule what the pictures show.
#
#   ./launch/shapes.sh             draw, embed, train, sample, check: docs/shapes.md
#   ./launch/shapes.sh --smoke     the same path in 2 minutes
#
# Everything goes to runs/shapes/; running again goes on where it stopped. Other flags:
# --run=DIR, --seed=N (of the training).
set -euo pipefail

# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

run=runs/shapes
seed=0
num=24000
num_prompts=240
train_flags=()
sample_flags=()
smoke=0
for argument in "$@"; do
  case $argument in
    --smoke)
      smoke=1
      run=runs/shapes_smoke
      num=64
      num_prompts=2
      train_flags=(--config.train.num_steps=4 --config.train.log_every=1
        --config.train.batch_size=8)
      sample_flags=(--steps=2)
      ;;
    --seed=*) seed=${argument#*=} ;;
    --run=*) run=${argument#*=} ;;
    *) die "unknown argument $argument; known: --smoke, --seed=N, --run=DIR" ;;
  esac
done

install_extras quickstart
use_this_host
cd "$ROOT"
mkdir -p "$run"

command() {
  "$PYTHON" -m "imagen_jax.$1" "${@:2}"
}

# One virtual device for each of two cores, as in quickstart.sh.
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=2"
((smoke)) && XLA_FLAGS+=" --xla_backend_optimization_level=0" # compiles faster

data=$run/data/shapes/${num}_${num_prompts}_64px
started=$SECONDS
command prepare shapes --data_dir="$run/data" --num="$num" --num_prompts="$num_prompts"
command embed --captions="$data/captions.txt" --store="$run/store" --max_length=16
train=(train --config=configs/shapes.py --workdir="$run/shapes"
  --config.seed="$seed" --config.data.source="index:$data/index"
  --config.data.store="$run/store" "${train_flags[@]}")
# Apart: where a process has compiled its step, the step takes a third longer.
[[ -d $run/shapes/checkpoints ]] || command "${train[@]}" --compile_only
command "${train[@]}"
# Of the data, the embeddings and the training; a run that went on after a kill gives
# what its last call took.
minutes=$(awk "BEGIN {print ($SECONDS - $started) / 60}")
command sample --workdirs="$run/shapes" --prompts="$data/prompts.jsonl" --num=1 \
  --embeddings="$run/store" --samples="$run/samples" --out="$run/sheet.png" \
  --batch_size=48 "${sample_flags[@]}"
command evaluate shapes --samples="$run/samples" --out="$run/report.json" \
  --minutes="$minutes"
echo "Pictures: $run/sheet.png, $run/samples/; report: $run/report.json"
