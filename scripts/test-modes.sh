#!/usr/bin/env bash
# Runs the port tests in the modes that the first run did not cover. The tests must have been built.
set -euo pipefail
cd "$(dirname "$0")/.."

run() {
  echo "== $1"
  shift
  env "$@" swift test --skip-build --filter 'MessagePortsTests|SharedRingTests' --skip Soak --skip Demo
}

run "epoll driver" MESSAGEPORTS_DRIVER=epoll
run "POSIX shared memory" MESSAGEPORTS_BACKING=posixSharedMemory
run "one processor" taskset -c 0
