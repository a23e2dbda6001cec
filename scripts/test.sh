#!/usr/bin/env bash
# Runs the tests, which must have been built: each module in a process of its own, because some tests change limits of
# the process or wait for all of its children; then the ports once more in each mode that the first run did not cover.
# What failed is said once more at the end, where a log that was cut short still has it.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

run() {
  local title=$1 filter=$2
  shift 2
  echo "== $title"
  env "$@" swift test --skip-build --filter "$filter" 2>&1 | tee "$log" && return
  echo "== failed: $title"
  grep -a -A 12 -E '^✘ Test .* recorded an issue|[Ff]atal error|\*\*\* |error: Exited' "$log" | head -n 200 || true
  return 1
}

for module in CSupportTests SharedRingTests MessageCodingTests ToolTests MessagePortsTests; do
  run "$module" "^$module\."
done
run "forked children" '^MessagePortsTests\.Fork' MESSAGEPORTS_FORK_TESTS=1
run FuzzTests '^FuzzTests\.' FUZZ_ALONE=1
run "the ports on epoll" '^(MessagePortsTests|SharedRingTests)\.' MESSAGEPORTS_DRIVER=epoll
run "the ports in POSIX shared memory" '^(MessagePortsTests|SharedRingTests)\.' MESSAGEPORTS_BACKING=posixSharedMemory
# On one processor the pool of tasks has one thread. The exhaustive tests of the rings keep it for many seconds, so the ports
# run without them, and wait longer for their turn before that counts as a lost wake-up.
run "the rings on one processor" '^SharedRingTests\.' taskset -c 0
run "the ports on one processor" '^MessagePortsTests\.' MESSAGEPORTS_TEST_PATIENCE=3 taskset -c 0
