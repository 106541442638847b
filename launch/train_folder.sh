#!/usr/bin/env bash
# From a folder of your own pictures to a cascade that draws like them.
#
#   ./launch/train_folder.sh DIR                         check, train, sample, report
#   ./launch/train_folder.sh DIR --prompt="a red bicycle"     and draw this prompt
#   ./launch/train_folder.sh DIR --steps=4000,1200       train so long (base, sr256)
#   ./launch/train_folder.sh DIR --run=RUN               everything goes to RUN
#   ./launch/train_folder.sh DIR --smoke                 the same path in 2 minutes
#
# DIR holds pictures of at least 256 x 256 pixels with their captions: a .txt beside each
# or one metadata.csv or metadata.jsonl with the columns file_name and text; or it holds
# tars or Parquet files. Unusable pictures are left out and listed with the reason. A
# tenth of the pictures, by name, is held out of training. Everything goes to
# runs/NAME-OF-DIR/; running again goes on where it stopped. --prompt may be given several
# times, later too. docs/own-data.md has the times and what to change.
set -euo pipefail

# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

absolute() {
  case $1 in
    /*) echo "$1" ;;
    *) echo "$PWD/$1" ;;
  esac
}

pictures=
run=
steps=
smoke=0
prompts=()
for argument in "$@"; do
  case $argument in
    --smoke) smoke=1 ;;
    --run=?*) run=$(absolute "${argument#*=}") ;;
    --prompt=?*) prompts+=("${argument#*=}") ;;
    --steps=*)
      steps=${argument#*=}
      [[ $steps =~ ^[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})?$ ]] ||
        usage_error "$argument is no number of steps; give one for both stages" \
          "or two by a comma, such as --steps=2000,600"
      ;;
    -*) usage_error "unknown flag $argument; known: --run=DIR, --prompt=TEXT," \
      "--steps=BASE,SR256, --smoke" ;;
    *)
      [[ -z $pictures ]] ||
        usage_error "$argument is a second folder; give one that holds all pictures"
      pictures=$(absolute "$argument")
      ;;
  esac
done
[[ -n $pictures ]] ||
  usage_error "no folder of pictures is given; run ./launch/train_folder.sh DIR"
pictures=${pictures%/}
[[ -d $pictures ]] ||
  usage_error "$pictures is no folder; give one with pictures and their captions"
if [[ -z $run ]]; then
  name=$(basename "$pictures")
  run=$ROOT/runs/${name//[^A-Za-z0-9._-]/_}
  if ((smoke)); then run+=-smoke; fi
fi
[[ $run/ != "$pictures"/* ]] ||
  usage_error "--run=$run lies in the folder of pictures; give another folder"
[[ $run != *,* ]] || usage_error "--run=$run has a comma; give a folder without one"
if ! mkdir -p "$run" 2>/dev/null || [[ ! -w $run ]]; then
  usage_error "--run=$run cannot be written; give another folder"
fi

install_extras quickstart
use_this_host
cd "$ROOT"

command() {
  "$PYTHON" -m "imagen_jax.$1" "${@:2}"
}

# One virtual device per core, as in quickstart.sh; a power of two divides the batch.
devices=1
while ((!smoke && devices < 8 &&
  devices * 2 <= $(nproc 2>/dev/null || sysctl -n hw.ncpu))); do
  devices=$((devices * 2))
done
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$devices"

# These lists are never empty: bash before 4.4 takes an empty one for unset.
base_flags=(--config.train.heldout_every=250)
sr256_flags=(--config.train.heldout_every=200)
sampler_flags=(--batch_size=16)
num=4 # pictures per prompt
if ((smoke)); then
  # Whatever compiles faster; Adam does, by far.
  XLA_FLAGS+=" --xla_backend_optimization_level=0"
  steps=${steps:-50}
  small=(--config.train.log_every=5 --config.train.preview_every=0
    --config.train.heldout_every=0
    --config.network.text_proj_width=16 --config.optimizer.kind=adam
    "--config.network.num_res_blocks=[1]")
  base_flags+=("${small[@]}" --config.train.batch_size=8
    --config.network.channels=16 --config.network.head_dim=16
    "--config.network.channel_mults=[1]" "--config.network.attention=[True]")
  sr256_flags+=("${small[@]}" --config.train.batch_size=2
    "--config.network.channels=[8]" "--config.network.strides=[2]"
    "--config.network.self_attention=[False]" "--config.network.text_attention=[True]")
  sampler_flags=(--steps=2)
  num=1
fi
if [[ -n $steps ]]; then
  base_flags+=(--config.train.num_steps="${steps%,*}")
  sr256_flags+=(--config.train.num_steps="${steps#*,}")
fi

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

index=$run/index
stages=$run/base,$run/sr256
if [[ ! -f $run/report.json || -n $steps ]]; then # more steps: trains on
  # Decoding every picture once finds all damage now, not after hours.
  command prepare index --out="$index" --min_size=256 --decode "$pictures"
  kept=$("$PYTHON" -c \
    'import json, sys; print(json.load(open(sys.argv[1]))["num_records"])' \
    "$index/index.json")
  ((kept > 1)) || usage_error "$pictures has one usable picture; give at least 2, of" \
    "which one is held out, better hundreds (left out: see $index/dropped.csv)"
  command embed --source="index:$index" --store="$run/store" --max_length=64
  for stage in base sr256; do
    stage_flags=("${base_flags[@]}")
    [[ $stage == base ]] || stage_flags=("${sr256_flags[@]}")
    command train --config="configs/own_$stage.py:$kept" --workdir="$run/$stage" \
      --config.data.source="index:$index:train" --config.data.store="$run/store" \
      --config.preview.source="index:$index:held_out" \
      --config.heldout.source="index:$index:held_out" --config.heldout.count=16 \
      --config.heldout.times=4 "${stage_flags[@]}"
  done
  command evaluate prompts --source="index:$index:held_out" --num=8 \
    --out="$run/held_out.txt"
  [[ -z $steps ]] || rm -rf "$run/samples" # those of fewer steps
  command sample --workdirs="$stages" --prompts="$run/held_out.txt" \
    --num="$num" --samples="$run/samples" --out="$run/grid.png" "${sampler_flags[@]}"
  command upscale --workdir="$run/sr256" --source="index:$index:held_out" \
    --store="$run/store" --num="$((8 * num))" --probe="$run/sr_probe.npz" \
    "${sampler_flags[@]}"
  note_spent
  read -r minutes cpu_seconds < <(cat "$run"/spent.* | awk \
    '{wall += $1; cpu += $2} END {printf "%.2f %.0f\n", wall / 60, cpu}')
  command evaluate folder --run="$run" --minutes="$minutes" --cpu_seconds="$cpu_seconds"
fi
if ((${#prompts[@]})); then
  printf '%s\n' "${prompts[@]}" >"$run/prompts.txt"
  command sample --workdirs="$stages" --prompts="$run/prompts.txt" \
    --num="$num" --out="$run/prompts.png" "${sampler_flags[@]}"
  echo "Your prompts: $run/prompts.png"
fi
echo "Pictures: $run/grid.png, $run/samples/; report: $run/report.md, $run/report.json"
