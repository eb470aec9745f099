# Sourced by demo and test: makes the environment .venv once, and again when what it installs has changed.
# Needs Python 3.11 or newer with venv. PYTHON=/path/to/python chooses one; VOXPLAN_VENV another folder.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VOXPLAN_VENV:-$root/.venv}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "voxplan needs Python 3.11 or newer with the venv module; install it or set PYTHON=/path/to/python" >&2
    return 1
}

prepare_environment() {
    local python stamp
    stamp=$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum)
    if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.voxplan-stamp" 2>/dev/null)" = "$root $stamp" ]; then
        return
    fi
    python=$(find_python)
    echo "Making the environment $venv (once; a few minutes) ..."
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    # torch first and alone: with the pinned build in place nothing else asks for another one.
    "$venv/bin/python" -m pip install --quiet --upgrade pip
    "$venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" torch
    "$venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" --editable "$root[dev]"
    echo "$root $stamp" >"$venv/.voxplan-stamp"
}

# The checkout has folders called profiling, planning and plans: never import them from the current folder.
export PYTHONSAFEPATH=1
