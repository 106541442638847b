#!/usr/bin/env bash
# Trains on a TPU that is queued for and may be taken away, until the training is done:
#
#   ./launch/tpu_queued.sh train --name=NAME --zone=ZONE --type=v5litepod-256 --spot \
#       -- train --config=configs/imagen_64_2b.py --workdir=gs://BUCKET/base ...
#   ./launch/tpu_queued.sh status --name=NAME --zone=ZONE
#   ./launch/tpu_queued.sh delete --name=NAME --zone=ZONE
#
# `train` asks for a queued resource, waits for it, sets its hosts up, starts the command
# and watches. Preempted, it deletes what is left, asks again and starts the same command,
# which goes on from its last checkpoint. It ends when the command has finished (exit
# status 0), refuses its flags (2) or has failed --max_failures times (1), and deletes the
# resource each time, after printing the last lines of the logs. It keeps no state: end it
# with Ctrl-C and start it again, on any machine, and it goes on watching. Meanwhile
# `tpu_vm.sh logs` and `tpu_vm.sh status` work with the same name.
#
# --project, --version, --secrets, --internal_ip, --gcloud_flag, --dry-run: as tpu_vm.sh
# --poll=60          seconds between two looks
# --max_failures=5   of the command, of setting up, or of the request
set -euo pipefail

# shellcheck source=launch/cloud.sh
source "$(dirname "${BASH_SOURCE[0]}")/cloud.sh"

type='' version='' spot='' poll=60 max_failures=5
failures=0    # as --max_failures counts them
unanswered=0  # looks in a row that gcloud or a host did not answer
stopped=0     # looks in a row that found the job stopped on a machine that is there
patience=10   # such looks until something is done
last_seen=''

request_machine() {
  local request=(gcloud compute tpus queued-resources create "$name" "${where[@]}"
    "--node-id=$name" "--accelerator-type=$type" "--runtime-version=$version")
  [[ -z $spot ]] || request+=(--spot)
  guarded queued-resources "${request[@]}" ${extra_flags[@]+"${extra_flags[@]}"}
}

remove_machine() {
  guarded queued-resources gcloud compute tpus queued-resources delete "$name" \
    "${where[@]}" --force --quiet
}

say() {
  echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $name: $*"
}

# finish STATUS WORD...: saves what the logs say, deletes the resource and ends.
finish() {
  local status=$1
  shift
  fetch_logs 100 || echo "The logs could not be read." >&2
  remove_machine || die "$*, but $name was not deleted; see above"
  say "$*; the queued resource is deleted"
  exit "$status"
}

count_failure() {
  failures=$((failures + 1))
  say "$* (failure $failures of at most $max_failures)"
  ((failures < max_failures)) || finish 1 "given up after $failures failures"
}

# The resource is there: what is its job doing, and what has to be done.
tend_job() {
  local state
  if ! state=$(job_state); then
    unanswered=$((unanswered + 1))
    if ((unanswered >= patience)); then
      unanswered=0
      count_failure "not all of its hosts answer ssh; it is asked for anew"
      remove_machine || true
    fi
    return
  fi
  unanswered=0
  [[ $state == stopped ]] || stopped=0
  if [[ $state != "$last_seen" ]]; then
    say "job $state"
    last_seen=$state
  fi
  case $state in
    none)
      set_up_and_start || count_failure "setting up failed"
      ;;
    running) ;;
    stopped) # the first sign of a preemption, most often
      stopped=$((stopped + 1))
      if ((stopped >= patience)); then
        stopped=0
        set_up_and_start || count_failure "the command did not start again"
      fi
      ;;
    finished) finish 0 "the command has finished" ;;
    refused) finish 2 "the command refuses its flags; see the last lines above" ;;
    broken)
      count_failure "the command failed on a host"
      set_up_and_start || true # the next look sees it
      ;;
  esac
}

watch() {
  local state
  guard queued-resources
  while :; do
    if ! state=$(state_of queued-resources "$name"); then
      unanswered=$((unanswered + 1))
      if ((unanswered >= patience)); then
        report_left queued-resources
        die "gcloud did not answer $unanswered times; put that right and run this again"
      fi
      sleep "$poll"
      continue
    fi
    if [[ $state != ACTIVE && $state != "$last_seen" ]]; then
      say "${state:-not there, asking for it}"
      last_seen=$state
    fi
    case $state in
      '') request_machine || count_failure "the request failed" ;;
      ACTIVE) tend_job ;;
      SUSPENDED) remove_machine || true ;; # preempted; asked for anew when gone
      FAILED)
        count_failure "the request failed"
        remove_machine || true
        ;;
    esac
    sleep "$poll"
  done
}

# What `watch` does, once each, in the order of a run that is preempted once.
show_plan() {
  state_of queued-resources "$name"
  request_machine
  job_state || true
  set_up_and_start
  echo "# every $poll s: the first and the third command; when preempted, the next line," \
    "then from the top"
  remove_machine
  echo "# when finished, refused or failed too often:"
  fetch_logs 100
  remove_machine
}

action=${1:-}
case $action in
  train) parse_flags "name zone project type version secrets poll max_failures" \
    "spot internal_ip" gcloud_flag "${@:2}" ;;
  status | delete) parse_flags "name zone project" "" "" "${@:2}" ;;
  *) usage_error "'$action' is no action; give train, status or delete" ;;
esac
set_where
case $action in
  train)
    require type v5litepod-16
    [[ -n $version ]] || version=$(runtime_version "$type")
    check_number poll 0 60
    check_number max_failures 1 5
    check_secrets
    set_job ${rest[@]+"${rest[@]}"}
    check_kept
    if [[ -n $dry_run ]]; then show_plan; else watch; fi
    ;;
  status)
    state=$(state_of queued-resources "$name") || die "gcloud could not list $zone"
    [[ -n $dry_run ]] || echo "$name: ${state:-does not exist in $zone}"
    ;;
  delete) remove_machine || die "$name was not deleted; see gcloud's message above" ;;
esac
