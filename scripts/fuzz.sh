#!/usr/bin/env bash
# Fuzzes everything that reads what a peer wrote, and prints what was reached. See Tests/Fuzz/README.md.
# Usage: fuzz.sh [--quick] [--runs N | --seconds S] [--minimize] [target ...]
#   --quick      a few seconds for each target
#   --runs N     executions for each target; 10,000,000 unless told otherwise
#   --length N   bytes of the longest input; 1,024 unless told otherwise. Shorter ones take less time each
#   --minimize   afterwards, keep in the tree what is needed to reach what was reached
# Inputs that do harm go to Tests/Fuzz/Regressions, where `swift test` replays them.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=(-runs=10000000) length=1024 minimize=false targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --quick) limit=(-max_total_time=4) ;;
    --runs) limit=("-runs=$2"); shift ;;
    --seconds) limit=("-max_total_time=$2"); shift ;;
    --length) length=$2; shift ;;
    --minimize) minimize=true ;;
    *) targets+=("$1") ;;
  esac
  shift
done

# libFuzzer is part of the toolchain. Its own `main` is left out: SwiftPM's executables have one.
resources=$(dirname "$(dirname "$(readlink -f "$(command -v swiftc)")")")/lib/clang
libfuzzer=$(find "$resources" -path "*/lib/linux/libclang_rt.fuzzer_no_main-$(uname -m).a" | head -n 1)
[ -n "$libfuzzer" ] || { echo "fuzz: this toolchain has no libFuzzer" >&2; exit 1; }

# A folder of its own for this build: its modules are instrumented. The linker's warnings are about the sanitizer.
work=.build-fuzz
build=(swift build -c release --product Fuzzer --scratch-path "$work" --sanitize=address
  -Xswiftc -enable-testing -Xswiftc -Xfrontend -Xswiftc -sanitize=fuzzer -Xcc -fsanitize=fuzzer-no-link
  -Xlinker "$libfuzzer" -Xlinker -lstdc++)
mkdir -p "$work"
MESSAGEPORTS_FUZZER=1 "${build[@]}" >"$work/build.log" 2>&1 || { grep -v 'Cannot export' "$work/build.log" >&2; exit 1; }
fuzzer=$work/release/Fuzzer
[ ${#targets[@]} -gt 0 ] || read -ra targets <<<"$("$fuzzer" || true)"

# Swift's own crash reporter would wait for a debugger that libFuzzer keeps from it.
export FUZZ_ALONE=1 SWIFT_BACKTRACE=enable=no ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1

statistic() { sed -n "s/^stat::$1: *//p" "$2"; }

printf '%-10s %12s %8s %6s %9s %7s %7s\n' target executions exec/s edges features corpus crashes
failed=0
for target in "${targets[@]}"; do
  export FUZZ_TARGET=$target
  tree=Tests/Fuzz/Corpus/$target found=$work/corpus/$target seeds=$work/seeds/$target harm=Tests/Fuzz/Regressions/$target
  log=$work/$target.log
  rm -rf "$seeds"
  mkdir -p "$tree" "$found" "$seeds" "$harm"
  FUZZ_SEEDS=$seeds "$fuzzer"
  before=$(find "$harm" -type f | wc -l)
  "$fuzzer" "${limit[@]}" -max_len="$length" -timeout=10 -rss_limit_mb=4096 -malloc_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="$harm/" "$found" "$tree" "$seeds" </dev/null >"$log" 2>&1 || failed=1
  crashes=$(($(find "$harm" -type f | wc -l) - before))
  last=$(grep -aE 'cov: [0-9]+ ft: [0-9]+' "$log" | tail -n 1)
  field() { sed -nE "s/.*$1: ([0-9]+).*/\1/p" <<<"$last"; }
  printf '%-10s %12s %8s %6s %9s %7s %7s\n' "$target" "$(statistic number_of_executed_units "$log")" \
    "$(statistic average_exec_per_sec "$log")" "$(field cov)" "$(field ft)" "$(field corp)" "$crashes"
  if $minimize; then
    smaller=$work/minimized/$target
    rm -rf "$smaller"
    mkdir -p "$smaller"
    "$fuzzer" -merge=1 -max_len="$length" "$smaller" "$seeds" "$tree" "$found" </dev/null >"$log.merge" 2>&1
    rm -rf "$tree"
    mv "$smaller" "$tree"
  fi
done
[ $failed -eq 0 ] || { echo "fuzz: something did harm, see $work/*.log" >&2; exit 1; }
