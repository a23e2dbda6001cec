#!/usr/bin/env bash
# Kills a process over and over, as the machine would have it, then with the other driver, and with the other backing.
# Usage: crash.sh steps            at each step of the library, in every situation of the other side
#        crash.sh random KILLS     at random moments; a fifth as often with the others
set -euo pipefail
cd "$(dirname "$0")/.."

trials=$1 kills=${2:-}
case $trials in
  # The steps are compiled in by a flag, so they have a build of their own.
  steps) scratch=.build-crash flags=(-Xswiftc -D -Xswiftc CRASH_POINTS) ;;
  random) scratch=.build flags=() ;;
  *) echo "usage: crash.sh steps | random KILLS" >&2; exit 64 ;;
esac
swift build -c release --product CrashTrials --scratch-path "$scratch" ${flags[@]+"${flags[@]}"}

run() {
  local title=$1 kills=$2
  shift 2
  echo "== $title"
  env "$@" "$scratch/release/CrashTrials" "$trials" ${kills:+"$kills"}
}

others=${kills:+$((kills / 5))}
run "as the machine would have it" "$kills"
run "on epoll" "$others" MESSAGEPORTS_DRIVER=epoll
run "in POSIX shared memory" "$others" MESSAGEPORTS_BACKING=posixSharedMemory
