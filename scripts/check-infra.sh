#!/usr/bin/env bash
# Every check of infra/. Needs Python 3.11 and Node 20; installs the rest, at
# the versions pinned in tests/infra, into target/tools and tests/infra/node_modules.
# Arguments go to pytest: scripts/check-infra.sh -k columns
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools
checks=tests/infra

# A virtual environment for a list of exact versions, made again when the list changes.
environment() {
  local folder=$tools/$1 list=$checks/$2
  if ! cmp --silent "$list" "$folder/installed.txt"; then
    rm -rf "$folder"
    python3 -m venv "$folder"
    # --no-deps: the list is whole, and one version in it is deliberately newer
    # than checkov asks for (see tests/infra/test_checkov.py).
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$list"
    cp "$list" "$folder/installed.txt"
  fi
}

environment infra requirements.txt
environment checkov requirements-checkov.txt
if ! cmp --silent "$checks/package-lock.json" "$checks/node_modules/installed.json"; then
  npm ci --prefix "$checks" --silent --no-audit --no-fund
  cp "$checks/package-lock.json" "$checks/node_modules/installed.json"
fi

CHECKOV=$tools/checkov/bin/checkov PYTHONDONTWRITEBYTECODE=1 \
  "$tools/infra/bin/python" -m pytest -p no:cacheprovider -q "$checks" "$@"
