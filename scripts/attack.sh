#!/usr/bin/env bash
# Attacks a process of ours with others that want its harm, first as the machine would have it, then on epoll.
# Usage: attack.sh [MODE[+MODE…] | all | random] [option ...]   see Tests/Attack/README.md
set -euo pipefail
cd "$(dirname "$0")/.."

for product in Attacker TestPeer AttackTrials; do swift build -c release --product "$product"; done

failed=0
run() {
  local title=$1
  shift
  echo "== $title"
  "$@" || failed=1
}

run "as the machine would have it" .build/release/AttackTrials "$@"
run "on epoll" env MESSAGEPORTS_DRIVER=epoll .build/release/AttackTrials "$@"
exit $failed
