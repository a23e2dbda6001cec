#!/usr/bin/env bash
# Builds what is needed, measures, and draws the report. Options go to `bench run`: see README.md.
set -euo pipefail
cd "$(dirname "$0")"

for option in "$@"; do
  if [ "$option" = --peers ]; then peers/setup.sh || true; fi
done
make --silent --directory peers
swift build -c release --scratch-path .build --product bench
swift build -c release --scratch-path .build --product instructions
.build/release/bench run "$@"
./check-instructions.sh --report || true
./report.sh
