# What the scripts share that run a command beside a server of its own: a folder
# that goes with the server, and a wait until the server can be used. To be
# sourced; not to be run.
# shellcheck shell=bash

if [ "$#" -eq 0 ]; then
  echo "usage: $0 COMMAND [ARGUMENT...]" >&2
  exit 2
fi

: "${stop_with:?the signal that ends the server}"
folder=$(mktemp -d)
servers=()
# shellcheck disable=SC2317,SC2329 # the trap calls it
stop() {
  if [ "${#servers[@]}" -gt 0 ]; then
    kill "-$stop_with" "${servers[@]}" 2>/dev/null || true
    wait "${servers[@]}" 2>/dev/null || true
  fi
  rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Once `ready` says so, calls `begin` and runs the command with its exit code.
# $1 is the server's name; its processes are $servers, its log $folder/server.log.
run_beside() {
  local name=$1 code=0
  shift
  for _ in $(seq 150); do
    if ready; then
      begin
      "$@" || code=$?
      exit "$code"
    fi
    if ! kill -0 "${servers[@]}" 2>/dev/null; then
      break
    fi
    sleep 0.2
  done
  echo "$name did not start:" >&2
  cat "$folder/server.log" >&2
  exit 1
}
