#!/usr/bin/env bash
# A Cloud TPU, from its creation to its deletion:
#
#   ./launch/tpu_vm.sh create --name=NAME --zone=ZONE --type=v5litepod-256 [--spot]
#   ./launch/tpu_vm.sh setup  --name=NAME --zone=ZONE [--secrets=FILE]
#   ./launch/tpu_vm.sh run    --name=NAME --zone=ZONE -- train --config=... --workdir=gs://...
#   ./launch/tpu_vm.sh logs   --name=NAME --zone=ZONE [--lines=N | --follow]
#   ./launch/tpu_vm.sh status --name=NAME --zone=ZONE
#   ./launch/tpu_vm.sh stop   --name=NAME --zone=ZONE
#   ./launch/tpu_vm.sh delete --name=NAME --zone=ZONE
#
# `setup` sends the last commit of this repository to all hosts and installs it. `run`
# starts a command of imagen_jax on all of them and returns; train and embed get
# --coordinator=auto. `logs` prints all hosts' lines by time. `stop` saves a checkpoint;
# `run` goes on from it. `delete` ends the costs.
#
# --dry-run        prints all commands and runs none
# --project=P      instead of gcloud's own
# --version=V      other software than the type's
# --internal_ip    for hosts without an external address
# --secrets=FILE   lines such as HF_TOKEN=...: copied to the hosts, never on a command line
# --gcloud_flag=--network=N   goes to `gcloud ... create`; may be given several times
set -euo pipefail

# shellcheck source=launch/cloud.sh
source "$(dirname "${BASH_SOURCE[0]}")/cloud.sh"

type='' version='' spot='' lines=200 follow=''

create_machine() {
  local request
  require type v5litepod-16
  [[ -n $version ]] || version=$(runtime_version "$type")
  request=(gcloud compute tpus tpu-vm create "$name" "${where[@]}"
    "--accelerator-type=$type" "--version=$version")
  [[ -z $spot ]] || request+=(--spot)
  request+=(${extra_flags[@]+"${extra_flags[@]}"})
  guarded tpu-vm "${request[@]}" ||
    die "$name was not created; see gcloud's message and what is left, above"
}

delete_machine() {
  guarded tpu-vm gcloud compute tpus tpu-vm delete "$name" "${where[@]}" --quiet ||
    die "$name was not deleted; see gcloud's message above"
}

# After a failure on a machine that goes on costing.
failed() {
  report_left tpu-vm
  die "$*"
}

print_status() {
  local state
  state=$(state_of tpu-vm "$name") || die "gcloud could not list the TPUs of $zone"
  if [[ -z $state && -z $dry_run ]]; then
    echo "$name: does not exist in $zone"
  elif [[ $state == READY || -n $dry_run ]]; then
    echo "$name: $state, job: $(job_state || echo unknown)"
  else
    echo "$name: $state"
  fi
}

action=${1:-}
case $action in
  create) parse_flags "name zone project type version" spot gcloud_flag "${@:2}" ;;
  setup) parse_flags "name zone project secrets" internal_ip "" "${@:2}" ;;
  run | status | stop) parse_flags "name zone project" internal_ip "" "${@:2}" ;;
  logs) parse_flags "name zone project lines" "internal_ip follow" "" "${@:2}" ;;
  delete) parse_flags "name zone project" "" "" "${@:2}" ;;
  *) usage_error "'$action' is no action; give create, setup, run, logs, status, stop" \
    "or delete" ;;
esac
set_where
[[ $action == run || ${#rest[@]} == 0 ]] ||
  usage_error "$action takes no command after --; run does"

case $action in
  create) create_machine ;;
  setup)
    check_secrets
    set_up_workers || failed "$name was not set up; see the message above and run" \
      "setup again"
    ;;
  run)
    set_job ${rest[@]+"${rest[@]}"}
    check_kept
    start_job || failed "the command did not start on all hosts; see the message above"
    ;;
  logs)
    check_number lines 1 200
    if [[ -n $follow ]]; then
      on_workers "imagen_jax/launch/worker.sh follow"
    else
      fetch_logs "$lines" || die "not all logs of $name were read; see gcloud's message"
    fi
    ;;
  status) print_status ;;
  stop)
    on_workers "imagen_jax/launch/worker.sh stop" ||
      failed "the job was not stopped on all hosts; see gcloud's message above"
    ;;
  delete) delete_machine ;;
esac
