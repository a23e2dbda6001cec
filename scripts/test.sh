#!/usr/bin/env bash
# Runs the tests, which must have been built: each module in a process of its own, because some tests change limits of
# the process or wait for all of its children; then the ports once more in each mode that the first run did not cover.
set -euo pipefail
cd "$(dirname "$0")/.."

run() {
  local title=$1 filter=$2
  shift 2
  echo "== $title"
  env "$@" swift test --skip-build --filter "$filter"
}

for module in CSupportTests SharedRingTests MessageCodingTests ToolTests MessagePortsTests; do
  run "$module" "^$module\."
done
run FuzzTests '^FuzzTests\.' FUZZ_ALONE=1
run "the ports on epoll" '^(MessagePortsTests|SharedRingTests)\.' MESSAGEPORTS_DRIVER=epoll
run "the ports in POSIX shared memory" '^(MessagePortsTests|SharedRingTests)\.' MESSAGEPORTS_BACKING=posixSharedMemory
run "the ports on one processor" '^(MessagePortsTests|SharedRingTests)\.' taskset -c 0
