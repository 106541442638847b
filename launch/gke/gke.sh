#!/usr/bin/env bash
# TPUs of a GKE cluster that has JobSet (an XPK cluster has), through kubectl:
#
#   ./launch/gke/gke.sh submit --name=NAME --image=IMAGE --tpu=v5e:16x16 [--spot] \
#       -- train --config=configs/imagen_64_2b.py --workdir=gs://BUCKET/base ...
#   ./launch/gke/gke.sh logs   --name=NAME [--lines=N]
#   ./launch/gke/gke.sh status --name=NAME
#   ./launch/gke/gke.sh delete --name=NAME
#
# IMAGE is made from launch/gke/Dockerfile. `submit` fills jobset.yaml, keeps it in
# runs/gke/NAME.yaml and applies it; a failed or preempted pod restarts all of them, and
# the command goes on from its last checkpoint. train and embed get --coordinator=auto.
#
# --tpu=GENERATION:TOPOLOGY  v4, v5e, v5p or v6e, as the node pool was made
# --chips_per_host=4         of the node pool's machines: 1, 4 or 8
# --num_slices=1             node pools to use; set --config.mesh.num_slices likewise
# --max_restarts=100         after preemptions and failures alike
# --namespace=N --service_account=S --queue=Q   of Kubernetes; Q is a queue of Kueue
# --secret=NAME              a Secret whose entries, such as HF_TOKEN, the job sees
# --dry-run                  prints the manifest and the commands, runs none
set -euo pipefail

# shellcheck source=launch/cloud.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cloud.sh"

# shellcheck disable=SC2034 # several are read by name, in fill_manifest
image='' tpu='' spot='' num_slices=1 chips_per_host=4 max_restarts=100 lines=200
# shellcheck disable=SC2034
namespace='' service_account='' queue='' secret=''
kubectl=(kubectl)

# Sets accelerator, topology, chips and hosts.
# Source: https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
# shellcheck disable=SC2034 # read by name, in fill_manifest
set_tpu() {
  local side all=1
  require tpu v5e:16x16
  topology=${tpu#*:}
  [[ $tpu =~ ^[a-z0-9]+:[0-9]{1,3}(x[0-9]{1,3}){1,2}$ ]] ||
    usage_error "--tpu=$tpu is no slice; give GENERATION:TOPOLOGY, such as v5e:16x16"
  case ${tpu%%:*} in
    v4) accelerator='tpu-v4-podslice' ;;
    v5e) accelerator='tpu-v5-lite-podslice' ;;
    v5p) accelerator='tpu-v5p-slice' ;;
    v6e) accelerator='tpu-v6e-slice' ;;
    *) usage_error "--tpu=$tpu is of no known generation; give v4, v5e, v5p or v6e" ;;
  esac
  for side in ${topology//x/ }; do all=$((all * 10#$side)); done
  [[ $chips_per_host == [148] ]] ||
    usage_error "--chips_per_host=$chips_per_host is not to be had; give 1, 4 or 8"
  ((all > 0 && all % chips_per_host == 0)) || usage_error "--tpu=$tpu has $all chips," \
    "which --chips_per_host=$chips_per_host does not divide; give another"
  hosts=$((all / chips_per_host))
}

# Prints words as a list of JSON, which YAML reads.
json_list() {
  local word list=
  for word in "$@"; do
    list="$list, \"$(printf %s "$word" | sed 's/[\\"]/\\&/g')\""
  done
  echo "[${list#, }]"
}

fill_manifest() {
  local text key value
  text=$(<"$ROOT/launch/gke/jobset.yaml")
  for key in queue service_account spot secret; do
    if [[ -n ${!key} ]]; then
      text=$(printf '%s\n' "$text" | sed "s/ # if $key\$//")
    else
      text=$(printf '%s\n' "$text" | sed "/ # if $key\$/d")
    fi
  done
  for key in name queue max_restarts num_slices hosts service_account accelerator \
    topology image secret chips_per_host; do
    value=${!key}
    [[ $value =~ ^[A-Za-z0-9_./:@-]*$ ]] ||
      usage_error "--$key=$value has a character that no such name has; give it without"
    [[ $key != chips_per_host ]] || key=chips
    text=${text//"@$key@"/$value}
  done
  # Last, since arguments may hold anything; awk takes them without reading escapes.
  arguments=$(json_list "imagen_jax.${job[0]}" "${job[@]:1}") \
    awk '{ at = index($0, "@arguments@") }
      at { $0 = substr($0, 1, at - 1) ENVIRON["arguments"] substr($0, at + 11) }
      { print }' <<<"$text"
}

submit() {
  local manifest=$ROOT/runs/gke/$name.yaml text
  text=$(fill_manifest)
  if [[ -n $dry_run ]]; then
    echo "$text"
  else
    mkdir -p "${manifest%/*}"
    echo "$text" >"$manifest"
  fi
  if ! run "${kubectl[@]}" apply "--filename=$manifest"; then
    echo "What there is of $name: $("${kubectl[@]}" get jobset "$name" \
      --ignore-not-found --output=name || echo unknown, since kubectl fails)" >&2
    die "kubectl did not take $manifest; if $name exists, end it with:" \
      "./launch/gke/gke.sh delete --name=$name${namespace:+ --namespace=$namespace}"
  fi
}

action=${1:-}
case $action in
  submit) parse_flags "name namespace image tpu chips_per_host num_slices max_restarts \
service_account queue secret" spot "" "${@:2}" ;;
  logs) parse_flags "name namespace lines" "" "" "${@:2}" ;;
  status | delete) parse_flags "name namespace" "" "" "${@:2}" ;;
  *) usage_error "'$action' is no action; give submit, logs, status or delete" ;;
esac
check_name
[[ -z $namespace ]] || kubectl+=("--namespace=$namespace")
selector=--selector=jobset.sigs.k8s.io/jobset-name=$name

case $action in
  submit)
    require image us-docker.pkg.dev/PROJECT/REPOSITORY/imagen_jax:TAG
    set_tpu
    check_number num_slices 1 1
    check_number max_restarts 0 100
    set_job ${rest[@]+"${rest[@]}"}
    check_kept
    submit
    ;;
  logs)
    check_number lines 1 200
    folder=$ROOT/runs/logs/$name
    [[ -n $dry_run ]] || mkdir -p "$folder"
    request=("${kubectl[@]}" logs "$selector" "--tail=$lines" --max-log-requests=10000)
    if [[ -n $dry_run ]]; then
      run "${request[@]}"
    else
      run "${request[@]}" >"$folder/pods.log" || die "kubectl could not read the logs"
    fi
    run "$ROOT/launch/merge_logs.sh" "$folder/pods.log"
    ;;
  status)
    if ! { run "${kubectl[@]}" get jobset "$name" &&
      run "${kubectl[@]}" get pods "$selector"; }; then
      die "kubectl could not tell the state of $name; see its message above"
    fi
    ;;
  delete)
    run "${kubectl[@]}" delete jobset "$name" --ignore-not-found ||
      die "$name may still run and cost; see kubectl's message above"
    ;;
esac
