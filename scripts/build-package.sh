#!/usr/bin/env bash
# Builds what a release carries, into target/package:
#
#   defender-alert-export.zip             what the Functions host runs
#   defender-alert-export.zip.sha256      its hash
#   defender-alert-export.cdx.json        what is inside (CycloneDX)
#   defender-alert-export-deployment.zip  the above with README.md, infra/ and the scripts
#   defender-alert-export-deployment.zip.sha256
#
# The same commit gives the same bytes on any x86-64 Linux: pinned compiler and
# linker, locked dependencies, paths of this machine mapped away, the commit's
# own time on every entry, and no compression whose output may vary.
#
# Needs Rust (rust-toolchain.toml), Python 3.11 with pip, and git.
# ALLOW_DIRTY=1 packages a changed work tree, for trying things out.
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-gnu
# The oldest image of Functions v4 is Debian 11 with glibc 2.31.
glibc=2.28
tools=$PWD/target/tools/packaging

case "$PWD${CARGO_HOME:-$HOME}" in
*[[:space:]]*)
  echo "C compilers take their flags split at spaces, so neither this folder nor Cargo's may have one in its name." >&2
  exit 2
  ;;
esac

if [ "${ALLOW_DIRTY:-}" != 1 ] && [ -n "$(git status --porcelain --untracked-files=normal)" ]; then
  echo "the work tree differs from the commit, so the package would not be that commit's." >&2
  echo "Commit first, or set ALLOW_DIRTY=1 to try things out." >&2
  exit 2
fi

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

if [ ! -x "$tools/bin/cargo-zigbuild" ]; then
  python3 -m pip install --quiet --disable-pip-version-check --upgrade --no-deps \
    --target "$tools" cargo-zigbuild==0.24.0 ziglang==0.17.1
fi
export PATH="$tools/bin:$PATH"
export PYTHONPATH="$tools"
# No state of an earlier build may leak in, and none of this one out.
export ZIG_GLOBAL_CACHE_DIR="$PWD/target/zig-cache"
export CARGO_ZIGBUILD_CACHE_DIR="$PWD/target/zigbuild-cache"

rustup target add "$target" >/dev/null 2>&1 || true

# Where the compilers write paths into the executable, write the same ones for
# everybody. 0x1f separates flags.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)
CARGO_ENCODED_RUSTFLAGS=$(printf -- '--remap-path-prefix=%s=/source\x1f--remap-path-prefix=%s=/cargo\x1f--remap-path-prefix=%s=/rust' \
  "$PWD" "$cargo_home" "$sysroot")
export CARGO_ENCODED_RUSTFLAGS
export CFLAGS="-ffile-prefix-map=$PWD=/source -ffile-prefix-map=$cargo_home=/cargo"
export CXXFLAGS="$CFLAGS"

cargo zigbuild --release --locked --bin defender-alert-export --target "$target.$glibc" \
  --target-dir target/release-package

binary=target/release-package/$target/release/defender-alert-export
python3 scripts/package.py --root . --binary "$binary" --target "$target" --out target/package

cat target/package/*.sha256
