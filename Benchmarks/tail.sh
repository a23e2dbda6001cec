#!/usr/bin/env bash
# Builds the benchmarks, and measures the tail of latencies at a fixed rate. Options go to `bench tail`: see README.md.
set -euo pipefail
cd "$(dirname "$0")"

swift build -c release --scratch-path .build --product bench
.build/release/bench tail "$@"
