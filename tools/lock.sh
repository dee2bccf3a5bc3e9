#!/bin/sh
# Resolves what pyproject.toml asks for, the test extra and the build's own needs included, for every platform and
# Python from 3.11 on, with hashes. No address of an index is written: each user's own settings say where to fetch.
set -eu
cd "$(dirname "$0")/.."
if uv --version >/dev/null 2>&1; then uv=uv
elif .venv/bin/python -m uv --version >/dev/null 2>&1; then uv=".venv/bin/python -m uv"
else echo "lock: needs uv (pip install uv)" >&2; exit 1; fi
UV_CUSTOM_COMPILE_COMMAND="make lock" $uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --extra test "$@" pyproject.toml --output-file requirements.lock
