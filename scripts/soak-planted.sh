#!/usr/bin/env bash
# Shows that the torture finds bugs: plants one after the other in builds of its own, and measures how long each takes.
# Usage: soak-planted.sh [seconds-at-most]
#
# A wake-up that is lost once in a million was found in 4 runs of 4 on two busy processors, after 11 to 126 s, and each time
# after a single strike: it takes as long as chance takes to strike.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=${1:-600}

# find BUG ONE_IN EXPECTED: the torture has to fail, and to say what.
find_bug() {
  local bug=$1 one_in=$2 expected=$3
  local scratch=.build-planted
  swift build -c release --product Torture --scratch-path "$scratch" -Xswiftc -D -Xswiftc "$bug" >/dev/null
  local log="$scratch/$bug.log" start=$SECONDS status=0
  MESSAGEPORTS_PLANTED_ONE_IN=$one_in "$scratch/release/Torture" \
    --seconds "$limit" --processes 16 --ports 1000 --seed 1 >"$log" 2>&1 || status=$?
  # The bug itself says that it struck: otherwise, another one was found.
  if [ "$status" -ne 1 ] || ! grep -q 'planted bug: struck' "$log" || ! grep -q "$expected" "$log"; then
    cat "$log"
    echo "soak-planted: $bug, one in $one_in, was NOT found (exit code $status)"
    exit 1
  fi
  echo "soak-planted: $bug, one in $one_in, found after $((SECONDS - start)) s:"
  sed -n '/, seed/p; /^VIOLATION/,/^again/p' "$log" | head -6 | sed 's/^/  /'
}

find_bug PLANTED_LOST_WAKE_UP 1000000 'no progress for'
find_bug PLANTED_FORGOTTEN_MESSAGE 1000 'expected message'
