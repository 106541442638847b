#!/usr/bin/env bash
# Merges the logs of all hosts by time:
#
#   ./launch/merge_logs.sh FILE-OR-FOLDER...
#
# Lines begin with a time and a host, as launch/stamp.py writes them; a line without them
# (ssh's or gcloud's own) stays behind the one before it.
set -euo pipefail

(($#)) || {
  echo "error: no log is given; give files or folders of logs" >&2
  exit 2
}
for path in "$@"; do
  [[ -e $path ]] || {
    echo "error: $path does not exist; give files or folders of logs" >&2
    exit 2
  }
done

find "$@" -type f -print | LC_ALL=C sort | while IFS= read -r file; do
  LC_ALL=C awk '
    $1 ~ /^[0-9]+-[0-9][0-9]-[0-9][0-9]T[0-9:.]+Z$/ { stamp = $1; print; next }
    { print (stamp ? stamp : "0000-00-00T00:00:00.000000Z"), "-", $0 }' "$file"
done | LC_ALL=C sort -s -k1,1
