#!/usr/bin/env bash
# Runs a command beside a fresh Azurite, with AZURITE_TABLE and AZURITE_BLOB
# set to its addresses. The command's exit code is passed on.
#
# usage: scripts/with-azurite.sh COMMAND [ARGUMENT...]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
stop_with=TERM
# shellcheck source=scripts/beside.sh
source "$here/beside.sh"

azurite="$here/node_modules/.bin/azurite"
if [ ! -x "$azurite" ] || [ "$here/package-lock.json" -nt "$here/node_modules/.package-lock.json" ]; then
  npm ci --prefix "$here" --silent --no-audit --no-fund
fi

# Three ports nobody has; they are closed again before Azurite takes them.
free_ports() {
  node -e '
    const servers = [0, 0, 0].map(() => require("net").createServer().listen(0, "127.0.0.1"));
    setTimeout(() => {
      console.log(servers.map((server) => server.address().port).join(" "));
      servers.forEach((server) => server.close());
    }, 50);'
}

listens() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# shellcheck disable=SC2317,SC2329 # run_beside calls it
ready() {
  listens "$blob" && listens "$table"
}

# shellcheck disable=SC2317,SC2329 # run_beside calls it
begin() {
  export AZURITE_BLOB="http://127.0.0.1:$blob/devstoreaccount1"
  export AZURITE_TABLE="http://127.0.0.1:$table/devstoreaccount1"
}

read -r blob queue table < <(free_ports)
(
  cd "$folder"
  exec "$azurite" --silent --disableTelemetry --inMemoryPersistence --skipApiVersionCheck \
    --blobPort "$blob" --queuePort "$queue" --tablePort "$table"
) >"$folder/server.log" 2>&1 &
server=$!

run_beside Azurite "$@"
