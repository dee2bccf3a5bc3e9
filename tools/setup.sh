#!/bin/sh
# Makes .venv with exactly what requirements.lock names, and this checkout in it. Called by make; does nothing when
# nothing changed. Uses uv where there is one (about 4 seconds), else pip (about a minute). PYTHON chooses the Python.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup: $*"; exit 1; }
recent() { "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        recent "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.11 or later"
        printf '%s\n' "$PYTHON"
        return
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if recent "$name"; then printf '%s\n' "$name"; return; fi
    done
    old=$(python3 --version 2>/dev/null || echo none)
    fail "needs Python 3.11 or later, and python3 here is: $old. Install one, or name it: make PYTHON=/path/to/python3"
}

make_venv() {
    if uv --version >/dev/null 2>&1; then
        uv venv --quiet --clear --python "$(command -v "$1")" .venv
    else
        "$1" -m venv --clear .venv || fail "$1 cannot make a virtual environment (on Debian and Ubuntu: apt-get install python3-venv)"
    fi
}

install() {
    if uv --version >/dev/null 2>&1; then uv=uv
    elif .venv/bin/python -m pip install --quiet --disable-pip-version-check uv >/dev/null 2>&1; then uv=".venv/bin/python -m uv"
    else uv=""; fi
    if [ -n "$uv" ]; then
        $uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.lock
        $uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
    else
        say "setup: no uv to be had; pip takes about a minute"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    fi
}

# The folder's name is part of it: a virtual environment does not survive a move.
state="$(pwd) $(cat pyproject.toml requirements.lock tools/setup.sh | cksum)"
stamp=.venv/.k8snet-setup
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ] && recent .venv/bin/python; then exit 0; fi

python=$(find_python)
say "setup: installing into .venv (once; again only when the lock changes)"
case "$(cat "$stamp" 2>/dev/null || true)" in
    "$(pwd) "*) recent .venv/bin/python || make_venv "$python" ;;
    *) make_venv "$python" ;;
esac
rm -f "$stamp"
install || fail "could not install the packages that requirements.lock names; see the lines above"
printf '%s\n' "$state" > "$stamp"
say "setup: done"
