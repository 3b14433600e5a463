#!/usr/bin/env bash
# The portal in a real browser, on the demo's clouds: sign-in from button to
# "Alerts are flowing", a backfill from form to end, every state at three sizes,
# WCAG 2.2 AA, with and without script. Needs Node 20 and a built program;
# installs Debian's chromium when there is none. Pictures go to target/portal.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
fi
npm ci --silent --no-audit --no-fund --prefix tests/browser
cargo build --locked
node tests/browser/portal.js "${CARGO_TARGET_DIR:-target}/debug/defender-alert-export" target/portal
