#!/usr/bin/env bash
# Runs a command beside a fresh Azurite, with AZURITE_TABLE and AZURITE_BLOB
# set to its addresses. The command's exit code is passed on.
#
# usage: scripts/with-azurite.sh COMMAND [ARGUMENT...]
set -euo pipefail

if [ "$#" -eq 0 ]; then
  echo "usage: $0 COMMAND [ARGUMENT...]" >&2
  exit 2
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
azurite="$here/node_modules/.bin/azurite"
if [ ! -x "$azurite" ] || [ "$here/package-lock.json" -nt "$here/node_modules/.package-lock.json" ]; then
  npm ci --prefix "$here" --silent --no-audit --no-fund
fi

folder=$(mktemp -d)
server=
# shellcheck disable=SC2317 # the trap calls it
stop() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Three ports nobody has; they are closed again before Azurite takes them.
free_ports() {
  node -e '
    const servers = [0, 0, 0].map(() => require("net").createServer().listen(0, "127.0.0.1"));
    setTimeout(() => {
      console.log(servers.map((server) => server.address().port).join(" "));
      servers.forEach((server) => server.close());
    }, 50);'
}

ready() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

read -r blob queue table < <(free_ports)
(
  cd "$folder"
  exec "$azurite" --silent --disableTelemetry --inMemoryPersistence --skipApiVersionCheck \
    --blobPort "$blob" --queuePort "$queue" --tablePort "$table"
) >"$folder/azurite.log" 2>&1 &
server=$!

for _ in $(seq 150); do
  if ready "$blob" && ready "$table"; then
    export AZURITE_BLOB="http://127.0.0.1:$blob/devstoreaccount1"
    export AZURITE_TABLE="http://127.0.0.1:$table/devstoreaccount1"
    code=0
    "$@" || code=$?
    exit "$code"
  fi
  if ! kill -0 "$server" 2>/dev/null; then
    break
  fi
  sleep 0.2
done

echo "Azurite did not start:" >&2
cat "$folder/azurite.log" >&2
exit 1
