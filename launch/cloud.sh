# shellcheck shell=bash
# Sourced by the scripts that start work on other machines: flags, --dry-run, and what
# Cloud TPUs need. Works with bash 3.2. It sets, for those scripts:
#   rest   what followed -- on the command line
#   where  --zone and --project for gcloud, after `set_where`
#   job    the command of imagen_jax that the workers run, after `set_job`

# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

name='' zone='' project='' dry_run='' secrets='' internal_ip=''
rest=()
extra_flags=() # --gcloud_flag or --sbatch_flag, several times
exec 3>&1      # what a dry run prints, from inside $(...) too

# parse_flags "VALUES" "SWITCHES" "EXTRA" ARGUMENT...: --NAME=VALUE sets the variable NAME,
# --SWITCH sets SWITCH to 1 (a hyphen counts as an underscore), --EXTRA=FLAG, several
# times, adds to extra_flags.
parse_flags() {
  local values=" $1 " switches=" $2 dry_run " extra=$3 argument flag
  shift 3
  while (($#)); do
    argument=$1
    shift
    flag=${argument%%=*}
    flag=${flag#--}
    flag=${flag//-/_}
    if [[ $argument == -- ]]; then
      (($# == 0)) || rest=("$@")
      return
    elif [[ $argument == --*=* && -n $extra && $flag == "$extra" ]]; then
      extra_flags+=("${argument#*=}")
    elif [[ $argument == --*=* && $values == *" $flag "* ]]; then
      [[ -n ${argument#*=} ]] || usage_error "--$flag has no value; give --$flag=VALUE"
      printf -v "$flag" %s "${argument#*=}"
    elif [[ $argument == --* && $switches == *" $flag "* ]]; then
      printf -v "$flag" %s 1
    else
      usage_error "unknown flag $argument; known here:$(
        for flag in $values $extra; do printf ' --%s=VALUE' "$flag"; done
        for flag in $switches; do printf ' --%s' "${flag//_run/-run}"; done
      ), and -- before the command to run"
    fi
  done
}

# require FLAG EXAMPLE: ends the script unless the flag was given.
require() {
  [[ -n ${!1} ]] || usage_error "--$1 is not given; give --$1=$2"
}

check_number() {
  [[ ${!1} =~ ^[0-9]{1,6}$ && ${!1} -ge $2 ]] ||
    usage_error "--$1=${!1} is no whole number of at least $2; give one such as --$1=$3"
}

check_name() {
  require name my-run
  [[ $name =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
    usage_error "--name=$name is no name for the cloud; give up to 40 of a-z, 0-9 and -," \
      "a letter first and no - last"
}

# Prints words as one line that a shell reads back as the same words.
quoted() {
  local word line=
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=@%+,-]*)
        word="'$(printf %s "$word" | sed "s/'/'\\\\''/g")'"
        ;;
    esac
    line="$line $word"
  done
  echo "${line# }"
}

# Runs a command; a dry run prints it instead.
ask() {
  if [[ -n $dry_run ]]; then
    quoted "$@" >&3
  else
    "$@"
  fi
}

# As `ask`, for a command that changes something: shows it first.
run() {
  [[ -n $dry_run ]] || echo "+ $(quoted "$@")" >&2
  ask "$@"
}

# The part below is about Cloud TPUs.

set_where() {
  check_name
  require zone us-central1-a
  where=("--zone=$zone")
  [[ -z $project ]] || where+=("--project=$project")
}

# Prints the software of a TPU's machines, by its accelerator type.
# Source: https://cloud.google.com/tpu/docs/runtimes
runtime_version() {
  case $1 in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    *) usage_error "--type=$1 is of no known generation; give v2-N, v3-N, v4-N," \
      "v5litepod-N, v5p-N or v6e-N, or name the software by --version too" ;;
  esac
}

# set_job MODULE ARGUMENT...: checks what the workers are to run, and sets `job`.
# `train` and `embed` are run by all hosts together, so they learn of each other.
set_job() {
  local argument file joined=
  (($#)) || usage_error "no command is given; put it last, such as" \
    "-- train --config=configs/imagen_64_2b.py --workdir=gs://BUCKET/base"
  [[ $1 =~ ^[a-z_]+$ && (-f $ROOT/imagen_jax/$1.py || -d $ROOT/imagen_jax/$1) ]] ||
    usage_error "$1 is no command of imagen_jax; give train, embed or another module"
  for argument in "$@"; do
    case $argument in
      *$'\n'*) usage_error "${argument%%$'\n'*} has a line break; give it without" ;;
      --coordinator=*) joined=1 ;;
      --config=*)
        file=${argument#*=}
        file=${file%%:*}
        [[ $file == /* || -f $ROOT/$file ]] || usage_error "$argument is not in this" \
          "repository; give a file of configs/"
        ;;
    esac
  done
  job=("$@")
  if [[ -z $joined && ($1 == train || $1 == embed) ]]; then
    job+=(--coordinator=auto)
  fi
}

# The disk of a TPU VM goes with it.
check_kept() {
  local argument
  for argument in "${job[@]}"; do
    case $argument in
      --workdir=gs://* | --workdir=s3://* | --store=gs://* | --store=s3://*) ;;
      --workdir=* | --store=*)
        usage_error "$argument would go with the machine; give gs://BUCKET/DIR"
        ;;
    esac
  done
}

# state_of tpu-vm NAME, or state_of queued-resources NAME: prints its state, nothing
# where there is none; fails where gcloud does.
state_of() {
  local listed field=state
  [[ $1 == tpu-vm ]] || field=state.state
  listed=$(ask gcloud compute tpus "$1" list "${where[@]}" \
    "--format=value(name,$field)") || return
  awk -v name="$2" '{ sub(".*/", "", $1) } $1 == name { print $2 }' <<<"$listed"
}

# Prints the command that deletes NAME.
delete_command() {
  local script=tpu_vm.sh
  [[ $1 == tpu-vm ]] || script=tpu_queued.sh
  quoted "./launch/$script" delete "--name=$name" "${where[@]}"
}

# Says on stderr what exists after something went wrong; nothing costs unseen.
report_left() {
  local state
  if [[ -n $dry_run ]]; then
    return
  elif ! state=$(state_of "$1" "$name"); then
    echo "$name may exist, and cost: gcloud could not be asked." \
      "Look with: $(quoted gcloud compute tpus "$1" list "${where[@]}")" \
      "and delete it with: $(delete_command "$1")" >&2
  elif [[ -z $state ]]; then
    echo "There is no $1 $name in $zone; nothing is left behind." >&2
  else
    echo "$name exists (state $state) and costs until it is deleted with:" \
      "$(delete_command "$1")" >&2
  fi
}

guard() {
  guarding=$1
  trap 'report_left "$guarding"; exit 130' INT TERM
}

# guarded tpu-vm|queued-resources COMMAND...: a failure or a signal says what exists.
guarded() {
  local status=0
  guard "$1"
  run "${@:2}" || status=$?
  ((status == 0)) || report_left "$1"
  return "$status"
}

# reach ssh|scp WORD...: to all hosts of the TPU. One that was taken away is noticed in
# two minutes; ssh would wait for it much longer.
reach() {
  local flags=("${where[@]}" --worker=all --quiet "--$1-flag=-oConnectTimeout=60"
    "--$1-flag=-oServerAliveInterval=30")
  [[ -z $internal_ip ]] || flags+=(--internal-ip)
  run gcloud compute tpus tpu-vm "$@" "${flags[@]}"
}

# on_workers COMMAND [FLAG...]: runs a shell command on all hosts.
on_workers() {
  reach ssh "$name" "--command=$1" "${@:2}"
}

to_workers() {
  reach scp "$1" "$name:$2"
}

check_secrets() {
  [[ -z $secrets || -f $secrets ]] || usage_error "--secrets=$secrets is no file; give" \
    "one with lines such as HF_TOKEN=..."
}

# The last commit goes to all hosts, then its dependencies are installed there.
set_up_workers() {
  local archive=$ROOT/.cache/launch/$name.tgz
  if [[ -z $dry_run ]]; then
    mkdir -p "${archive%/*}"
    [[ -z $(git -C "$ROOT" status --porcelain) ]] ||
      echo "Only the last commit is sent; changes since then are not." >&2
  fi
  run git -C "$ROOT" archive --format=tar.gz --output="$archive" HEAD || return
  to_workers "$archive" imagen_jax.tgz || return
  [[ -z $secrets ]] || to_workers "$secrets" .imagen_jax_secrets || return
  on_workers "mkdir -p imagen_jax && tar -xzf imagen_jax.tgz -C imagen_jax &&\
 imagen_jax/launch/worker.sh setup tpu,text,text-hf,cloud,parquet"
}

start_job() {
  on_workers "imagen_jax/launch/worker.sh start $(quoted "${job[@]}")"
}

# Both, for hosts that may be fresh or not; a job that still runs there is stopped first.
set_up_and_start() {
  set_up_workers && start_job
}

# Prints what the hosts' job is doing, in one word: none (not set up, or not started),
# running, finished, refused (exit status 2: its flags are wrong), stopped (by a signal)
# or broken. Fails where not all hosts answer.
job_state() {
  local states
  states=$(on_workers "imagen_jax/launch/worker.sh state 2>/dev/null ||\
 echo state: none" 2>/dev/null) || return
  awk '/^state: / { n++; seen[$2 $3]++ }
    END {
      if (!n) exit 1
      if (seen["exit2"]) print "refused"
      else if (seen["none"] == n) print "none"
      else if (seen["exit0"] == n) print "finished"
      else if (seen["running"] + seen["exit0"] == n) print "running"
      else if (seen["exit143"] && seen["running"] + seen["exit0"] + seen["exit143"] == n)
        print "stopped"
      else print "broken"
    }' <<<"$states"
}

# fetch_logs LINES: prints the last lines of all hosts' logs, by time.
fetch_logs() {
  local folder=$ROOT/runs/logs/$name
  if [[ -z $dry_run ]]; then
    rm -rf "$folder"
    mkdir -p "$folder"
  fi
  on_workers "imagen_jax/launch/worker.sh log $1" "--output-directory=$folder" >&2 &&
    run "$ROOT/launch/merge_logs.sh" "$folder"
}
