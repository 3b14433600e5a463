#!/usr/bin/env bash
# Runs a command beside two fresh Azurites. One takes signatures with the
# account's key over http: AZURITE_TABLE and AZURITE_BLOB are its addresses. The
# other takes the tokens of an identity, which it does over https only:
# AZURITE_TLS_TABLE and AZURITE_TLS_BLOB; SSL_CERT_FILE then holds its
# certificate beside the machine's own. The command's exit code is passed on.
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

# Ports nobody has; they are closed again before Azurite takes them.
free_ports() {
  node -e '
    const servers = Array.from({ length: 6 }, () => require("net").createServer().listen(0, "127.0.0.1"));
    setTimeout(() => {
      console.log(servers.map((server) => server.address().port).join(" "));
      servers.forEach((server) => server.close());
    }, 50);'
}

# A certificate for this machine that lasts as long as the folder it lies in.
make_certificate() {
  NODE_PATH="$here/node_modules" node - "$folder" <<'NODE'
const { writeFileSync } = require("fs");
const folder = process.argv[2];
const altNames = [{ type: 7, ip: "127.0.0.1" }, { type: 2, value: "localhost" }];
const extensions = [{ name: "basicConstraints", cA: false }, { name: "subjectAltName", altNames }];
require("selfsigned")
  .generate([{ name: "commonName", value: "localhost" }], { extensions, keyType: "ec", algorithm: "sha256" })
  .then((made) => {
    writeFileSync(`${folder}/cert.pem`, made.cert);
    writeFileSync(`${folder}/key.pem`, made.private, { mode: 0o600 });
  });
NODE
}

# Whom the command may trust: whom it trusted before, and the certificate.
trusted() {
  cat "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" 2>/dev/null || true
  cat "$folder/cert.pem"
}

# $1, $2 and $3 are the ports for blobs, queues and tables.
start() {
  local blob=$1 queue=$2 table=$3
  shift 3
  (
    mkdir "$folder/$blob" && cd "$folder/$blob"
    exec "$azurite" --silent --disableTelemetry --inMemoryPersistence --skipApiVersionCheck \
      --blobPort "$blob" --queuePort "$queue" --tablePort "$table" "$@"
  ) >>"$folder/server.log" 2>&1 &
  servers+=($!)
}

# shellcheck disable=SC2317,SC2329 # run_beside calls it
ready() {
  local port
  for port in "$blob" "$table" "$tls_blob" "$tls_table"; do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 1
  done
}

# shellcheck disable=SC2317,SC2329 # run_beside calls it
begin() {
  trusted >"$folder/trusted.pem"
  export AZURITE_BLOB="http://127.0.0.1:$blob/devstoreaccount1"
  export AZURITE_TABLE="http://127.0.0.1:$table/devstoreaccount1"
  export AZURITE_TLS_BLOB="https://127.0.0.1:$tls_blob/devstoreaccount1"
  export AZURITE_TLS_TABLE="https://127.0.0.1:$tls_table/devstoreaccount1"
  export SSL_CERT_FILE="$folder/trusted.pem"
}

make_certificate
read -r blob queue table tls_blob tls_queue tls_table < <(free_ports)
start "$blob" "$queue" "$table"
start "$tls_blob" "$tls_queue" "$tls_table" --oauth basic --cert "$folder/cert.pem" --key "$folder/key.pem"

run_beside Azurite "$@"
