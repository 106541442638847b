# shellcheck shell=bash
# Sourced by the scripts beside it. `install_extras NAME,...` makes a Python environment
# that has this package with those extras, at the versions of constraints/, and sets
# PYTHON to its interpreter. The environment is the active virtual environment, else
# .venv in the repository, made when missing. A second call with nothing changed costs
# no time: a stamp in the environment tells what was installed.
#
# `use_this_host`, after it, is for scripts that train and sample on this machine.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PIP_DISABLE_PIP_VERSION_CHECK=1

die() {
  echo "error: $*" >&2
  exit 1
}

# For what the user wrote and can write otherwise.
usage_error() {
  echo "error: $*" >&2
  exit 2
}

# Runs the interpreter: a launcher on PATH may stand for a version that is not installed.
is_new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
  local name found
  for name in python3.12 python3.11 python3 python; do
    if is_new_enough "$name"; then
      command -v "$name"
      return
    fi
  done
  found=$(python3 --version 2>/dev/null) || found="no python3"
  die "no Python 3.11 or later was found (PATH has $found);" \
    "install python3.12 with its venv module and run this again"
}

# Sets PYTHON.
find_environment() {
  local venv=${VIRTUAL_ENV:-$ROOT/.venv} base
  if [[ -z ${VIRTUAL_ENV:-} && ! -e $venv ]]; then
    base=$(find_python)
    echo "Making $venv with $("$base" --version)."
    if ! "$base" -m venv "$venv"; then
      rm -rf "$venv"
      die "$base could not make a virtual environment;" \
        "on Debian or Ubuntu install python3-venv and run this again"
    fi
  fi
  PYTHON=$venv/bin/python
  if ! is_new_enough "$PYTHON" || ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
    die "$venv has no working Python 3.11 or later with pip;" \
      "deactivate it if it is active, else remove it, and run this again"
  fi
}

# Prints the file of tested versions for PYTHON, or /dev/null where there is none.
constraints_file() {
  local file
  file=$ROOT/constraints/py$("$PYTHON" -c \
    'import sys; print("%d%d" % sys.version_info[:2])').txt
  [[ -f $file ]] || file=/dev/null
  echo "$file"
}

pip_install() {
  (cd "$ROOT" && "$PYTHON" -m pip install --quiet -c "$(constraints_file)" "$@") ||
    die "pip could not install $*; see its message above, put it right (network, disk" \
      "space) and run this again"
}

install_extras() {
  local extras=$1 stamp want
  find_environment
  stamp=$(dirname "$PYTHON")/../.imagen_jax-$extras
  want=$(echo "$ROOT" && cat "$ROOT/setup.py" "$(constraints_file)" | cksum)
  if [[ -f $stamp && $(<"$stamp") == "$want" ]]; then
    return
  fi
  if [[ $(constraints_file) == /dev/null ]]; then
    echo "No tested set of versions for $("$PYTHON" --version); taking the newest."
  fi
  echo "Installing imagen_jax[$extras] (a minute or more)."
  # PyTorch goes first and by itself, so that a CPU build is taken where pip finds one.
  if [[ ,$extras, == *,oracle,* ]]; then
    pip_install "$(sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' "$ROOT/setup.py")"
  fi
  pip_install --editable ".[$extras]"
  echo "$want" >"$stamp"
}

# On the CPU unless JAX_PLATFORMS says otherwise; compiled programs stay in ROOT.
use_this_host() {
  export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
  export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$ROOT/.cache/jax}
  if [[ $JAX_PLATFORMS == cpu && -z ${LD_PRELOAD:-} ]]; then
    prefer_jemalloc
  fi
}

# Where the system has jemalloc, commands keep freed memory by it, not by glibc (see
# imagen_jax/host_memory.py): their threads then do not wait for one another.
prefer_jemalloc() {
  local library
  library=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null |
    awk '/libjemalloc\.so\.2 / && !found {found = $NF} END {print found}') || true
  # A library of another architecture would be ignored with a message.
  [[ -n $library && -z $(LD_PRELOAD=$library "$PYTHON" -c "" 2>&1) ]] || return 0
  export LD_PRELOAD=$library
  export MALLOC_CONF=${MALLOC_CONF:-retain:true,dirty_decay_ms:-1,muzzy_decay_ms:-1}
}
