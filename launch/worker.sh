#!/usr/bin/env bash
# Runs on each host of a TPU, called by tpu_vm.sh and tpu_queued.sh over ssh:
#
#   worker.sh setup EXTRAS           install Python where it is too old, and the package
#   worker.sh start MODULE FLAGS     start `python -m imagen_jax.MODULE FLAGS`, detached;
#                                    a job that still runs is stopped first
#   worker.sh state                  state: none, running, exit N, or lost (by a reboot)
#   worker.sh log LINES              the last lines of its log
#   worker.sh follow                 its log as it grows
#   worker.sh stop                   SIGTERM, which saves a checkpoint; SIGKILL after 300 s
#
# ~/.imagen_jax_secrets (lines NAME=VALUE) is read into the job's environment.
set -euo pipefail

# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

secrets=$HOME/.imagen_jax_secrets
record=$HOME/imagen_jax_job
export PATH=$HOME/.local/bin:$PATH

set_up() {
  [[ ! -f $secrets ]] || chmod 600 "$secrets"
  if ! (find_python) >/dev/null 2>&1; then
    if ! { python3 -m pip install --quiet --user uv && uv python install 3.12; }; then
      die "Python 3.12 could not be installed beside $(python3 --version)"
    fi
  fi
  install_extras "$1"
}

# A number that another process got after a reboot does not count.
is_running() {
  [[ -f $record/pid ]] && kill -0 "$(<"$record/pid")" 2>/dev/null &&
    grep -q stamp.py "/proc/$(<"$record/pid")/cmdline"
}

stop_job() {
  local pid waited
  is_running || return 0
  pid=$(<"$record/pid")
  kill -TERM "$pid"
  for ((waited = 0; waited < 300; waited++)); do
    is_running || return 0
    sleep 1
  done
  kill -KILL -- "-$pid" # its group: the job too
}

start_job() {
  stop_job
  find_environment
  mkdir -p "$record"
  rm -f "$record/status"
  if [[ -f $secrets ]]; then
    set -a
    # shellcheck source=/dev/null
    source "$secrets"
    set +a
  fi
  cd "$ROOT"
  setsid nohup "$PYTHON" launch/stamp.py --status="$record/status" \
    -m "imagen_jax.$1" "${@:2}" >>"$record/log" 2>&1 </dev/null &
  echo $! >"$record/pid"
  echo "started on $(hostname)"
}

print_state() {
  if [[ -f $record/status ]]; then
    echo "state: exit $(<"$record/status")"
  elif is_running; then
    echo "state: running"
  elif [[ -f $record/pid ]]; then
    echo "state: lost"
  else
    echo "state: none"
  fi
}

case ${1:-} in
  setup) set_up "$2" ;;
  start) start_job "${@:2}" ;;
  state) print_state ;;
  log) tail -n "$2" "$record/log" ;;
  follow) tail -n 100 -F "$record/log" ;;
  stop) stop_job ;;
  *) die "worker.sh takes setup, start, state, log, follow or stop, not '${1:-}'" ;;
esac
