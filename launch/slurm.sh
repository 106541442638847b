#!/usr/bin/env bash
# GPUs under Slurm, from a login node, in a clone on a disk that all nodes share:
#
#   ./launch/slurm.sh setup
#   ./launch/slurm.sh submit --name=NAME --nodes=2 --gpus=8 --time=24:00:00 [--chain=3] \
#       -- train --config=configs/imagen_64_2b.py --workdir=DIR ...
#   ./launch/slurm.sh logs   --name=NAME
#   ./launch/slurm.sh status --name=NAME
#   ./launch/slurm.sh delete --name=NAME
#
# One process per GPU, which is how JAX finds them under Slurm; train and embed get
# --coordinator=auto. 5 minutes before its time is over a job gets SIGTERM and saves a
# checkpoint. --chain=N submits N jobs that run one after another, each going on from the
# last checkpoint; those after the end of the training finish at once. A preempted job is
# queued again by Slurm. Secrets such as HF_TOKEN come from the environment of `submit`.
#
# --partition=P, --account=A, --dry-run; --sbatch_flag=--mem=0 (several times) to sbatch
set -euo pipefail

# shellcheck source=launch/cloud.sh
source "$(dirname "${BASH_SOURCE[0]}")/cloud.sh"

nodes=1 gpus=1 chain=1 time='' partition='' account=''

submit() {
  local python=${VIRTUAL_ENV:-$ROOT/.venv}/bin/python logs=$ROOT/runs/slurm/$name
  local request step id ids=() count
  [[ -n $dry_run || -x $python ]] ||
    usage_error "there is no $python; run ./launch/slurm.sh setup first"
  step=(srun --kill-on-bad-exit=0 "--output=$logs/%j-%t.log" --open-mode=append "$python"
    launch/stamp.py -m "imagen_jax.${job[0]}" "${job[@]:1}")
  request=(sbatch --parsable "--job-name=$name" "--nodes=$nodes"
    "--ntasks-per-node=$gpus" "--gpus-per-node=$gpus" "--time=$time" --requeue
    --signal=TERM@300 --dependency=singleton "--chdir=$ROOT" --open-mode=append
    "--output=$logs/%j-batch.log")
  [[ -z $partition ]] || request+=("--partition=$partition")
  [[ -z $account ]] || request+=("--account=$account")
  request+=(${extra_flags[@]+"${extra_flags[@]}"} "--wrap=$(quoted "${step[@]}")")
  [[ -n $dry_run ]] || mkdir -p "$logs"
  for ((count = 0; count < chain; count++)); do
    if ! id=$(run "${request[@]}"); then
      ((count == 0)) || echo "Queued before that: ${ids[*]}; they go on, and end with:" \
        "./launch/slurm.sh delete --name=$name" >&2
      die "sbatch did not take job $((count + 1)) of $chain; see its message above"
    fi
    ids+=("${id:-none}")
  done
  [[ -n $dry_run ]] || echo "queued as ${ids[*]}; logs in $logs"
}

action=${1:-}
case $action in
  setup) parse_flags "" "" "" "${@:2}" ;;
  submit) parse_flags "name nodes gpus time chain partition account" "" sbatch_flag \
    "${@:2}" ;;
  logs | status | delete) parse_flags "name" "" "" "${@:2}" ;;
  *) usage_error "'$action' is no action; give setup, submit, logs, status or delete" ;;
esac
[[ $action == setup ]] || check_name

case $action in
  setup)
    if [[ -n $dry_run ]]; then
      echo "# a Python environment with imagen_jax[cuda,text,text-hf,cloud,parquet]"
    else
      install_extras cuda,text,text-hf,cloud,parquet
    fi
    ;;
  submit)
    check_number nodes 1 2
    check_number gpus 1 8
    check_number chain 1 3
    require time 24:00:00
    set_job ${rest[@]+"${rest[@]}"}
    submit
    ;;
  logs)
    [[ -d $ROOT/runs/slurm/$name ]] ||
      usage_error "there are no logs of $name here; see ./launch/slurm.sh status"
    run "$ROOT/launch/merge_logs.sh" "$ROOT/runs/slurm/$name"
    ;;
  status) run squeue "--name=$name" --me || die "squeue failed; see above" ;;
  delete) run scancel "--name=$name" --me ||
    die "jobs named $name may still run; see scancel's message above" ;;
esac
