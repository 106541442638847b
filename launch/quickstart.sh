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
smoke=0
seed=0
num=15
train_flags=()
sample_flags=()
prepare_flags=()
for argument in "$@"; do
  case $argument in
    --smoke)
      smoke=1
      run=runs/smoke
      num=1
      train_flags=(--config.train.num_steps=4 --config.train.log_every=1
        --config.train.preview_every=4 --config.preview.count=4
        --config.preview.num_steps=2 --config.train.batch_size=8)
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
use_this_host
cd "$ROOT"
mkdir -p "$run"

command() {
  "$PYTHON" -m "imagen_jax.$1" "${@:2}"
}

# One virtual device per core: data parallelism keeps the cores busier than threads
# inside one program do. A power of two divides the batch.
devices=1
while ((devices * 2 <= $(nproc 2>/dev/null || sysctl -n hw.ncpu) && devices < 8)); do
  devices=$((devices * 2))
done
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$devices"
((smoke)) && XLA_FLAGS+=" --xla_backend_optimization_level=0" # compiles faster

# Notes what this call has spent so far, in seconds: wall, then CPU of its children.
# Calls that a kill ended and that were run again all count.
started=$SECONDS
call=$(date +%s)-$$
note_spent() {
  times >"$run/times.txt"
  tail -n 1 "$run/times.txt" | tr 'ms' '  ' | awk -v wall=$((SECONDS - started)) \
    '{print wall, $1 * 60 + $2 + $3 * 60 + $4}' >"$run/spent.$call"
  rm "$run/times.txt"
}
trap note_spent EXIT

version=default/1.0.0
((smoke)) && version=default_2/1.0.0
data=$run/data/openmoji/$version
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
  note_spent
  read -r minutes cpu_seconds < <(cat "$run"/spent.* | awk \
    '{wall += $1; cpu += $2} END {printf "%.2f %.0f\n", wall / 60, cpu}')
  command evaluate quickstart --samples="$run/samples" --run="$run" \
    --minutes="$minutes" --cpu_seconds="$cpu_seconds" --out="$run/report.json"
fi
if [[ -n $prompt ]]; then
  command sample --workdirs="$run/base,$run/sr256" --prompt="$prompt" --num=8 \
    --out="$run/prompt.png"
  echo "Your prompt: $run/prompt.png"
fi
echo "Pictures: $run/grid.png, $run/samples/; report: $run/report.json"
