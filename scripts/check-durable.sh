#!/usr/bin/env bash
# Checks our side of Durable Functions against foreign code: the in-memory task
# hub of PyPI `durabletask`. Needs Rust and Python 3.11; installs into
# target/tools/durabletask.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/tools/durabletask
if [ ! -d "$tools/durabletask" ]; then
  python3 -m pip install --quiet --disable-pip-version-check --target "$tools" \
    -r tests/durabletask/requirements.txt
fi

export DURABLETASK_PYTHONPATH=$PWD/$tools
cargo test --locked --test it durable::
