#!/usr/bin/env bash
# Passes the tests under the compiler's sanitizers. Usage: sanitize.sh [--quick] [address] [thread] [undefined]
#   address    every access, use after free, leaks; in the processes that the tests start as well
#   thread     data races, with both ends of the lanes in one process, over one mapping
#   undefined  undefined behaviour in the C shim
# --quick: the modules that are done in a few minutes, built and all.
# What a sanitizer has to say is in .build-<sanitizer>/reports, one file for each process; one is enough to fail.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false sanitizers=()
for argument in "$@"; do
  case $argument in --quick) quick=true ;; *) sanitizers+=("$argument") ;; esac
done
if [ ${#sanitizers[@]} -eq 0 ]; then
  if $quick; then sanitizers=(address); else sanitizers=(address thread undefined); fi
fi

# Swift's crash reporter and the sanitizers both want to handle the same signals.
export SWIFT_BACKTRACE=enable=no
suppressions=$PWD/scripts/sanitizers
failed=0

for sanitizer in "${sanitizers[@]}"; do
  folder=.build-$sanitizer
  reports=$PWD/$folder/reports
  rm -rf "$reports"
  mkdir -p "$reports"
  # Sizes that a peer makes up must fail as `malloc` does, and not end the process.
  # What was freed is kept for a while, to see it used: less of it than tests allow a process to grow.
  export ASAN_OPTIONS="log_path=$reports/address:allocator_may_return_null=1:detect_leaks=1:detect_stack_use_after_return=1:quarantine_size_mb=64"
  export TSAN_OPTIONS="log_path=$reports/thread:allocator_may_return_null=1:suppressions=$suppressions/thread.supp:halt_on_error=0:exitcode=0"
  export LSAN_OPTIONS="suppressions=$suppressions/leak.supp:print_suppressions=0"
  [ "$sanitizer" != undefined ] || export UBSAN_OPTIONS="log_path=$reports/undefined:print_stacktrace=1"
  modules=(CSupportTests SharedRingTests MessageCodingTests FuzzTests ToolTests MessagePortsTests)
  # A sanitizer does not survive what these do on purpose: fault behind a file's end, refuse system calls, take the file
  # system or the memory away. Their processes would report that, or die of it.
  refusals=(IsolationTests ExhaustionTests MemoryExhaustionTests UringRefusalTests BufferTests/exhaustion)
  # Nor what these do: they close the standard descriptors, take every free number, or fork without an exec. The search for
  # leaks at a process's end then waits for ever for the thread that is to stop the others.
  descriptors=(DescriptorNumberTests ForkTests ForkedChildTests ForkMomentTests)
  # Both sanitizers make `mlock` do nothing.
  locks=(ResidencyTests)
  skip=() run=() parts=('')
  # `-Xcc`: the shim's inline functions are compiled with the Swift code, and are instrumented only if that says so.
  case $sanitizer in
    address)
      flags=(--sanitize=address -Xcc -fsanitize=address)
      # The sanitizer changes what these measure: resident memory, address space, the size of stack frames.
      skip=("${refusals[@]}" "${descriptors[@]}" "${locks[@]}" ResourceSoakTests ResourceLimitTests HostileMemoryTests/blocked FairnessTests/stack
        CloserTests/noThread)
      $quick && modules=(CSupportTests SharedRingTests FuzzTests)
      ;;
    thread)
      clang -O1 -fPIC -c "$suppressions/runtime.c" -o "$folder/runtime.o"
      flags=(--sanitize=thread -Xcc -fsanitize=thread -Xlinker "$PWD/$folder/runtime.o")
      # With addresses at random, the sanitizer may have to start the program again, which a test may have removed by then.
      run=(setarch -R)
      # The sanitizer changes what these count, and slows them down beyond what they allow.
      # After a fork, it lets no thread start.
      skip=("${refusals[@]}" "${locks[@]}" ForkedChildTests ForkMomentTests ResourceSoakTests ResourceLimitTests HostileMemoryTests/blocked
        ResourceTests/transfersLeaveNothing)
      modules=(SharedRingTests MessagePortsTests)
      # All suites begin at once, and under this sanitizer those that wait would use up the time that each test has.
      parts=('[A-C]' '[D-G]' '[H-L]' '[M-O]' '[P-R]' '[S-Z]')
      ;;
    undefined)
      flags=(-Xcc -fsanitize=undefined -Xcc -fno-sanitize-recover=undefined -Xlinker
        "$(find "$(dirname "$(dirname "$(readlink -f "$(command -v swiftc)")")")/lib/clang" -name "libclang_rt.ubsan_standalone-$(uname -m).a" | head -n 1)")
      modules=(CSupportTests SharedRingTests)
      ;;
    *) echo "sanitize: no sanitizer called $sanitizer" >&2; exit 64 ;;
  esac
  swift build --build-tests --scratch-path "$folder" "${flags[@]}" >"$folder/build.log" 2>&1 || { cat "$folder/build.log" >&2; exit 1; }
  for module in "${modules[@]}"; do
    skipped=()
    for name in ${skip[@]+"${skip[@]}"}; do skipped+=(--skip "$name"); done
    for part in "${parts[@]}"; do
      echo "== $sanitizer: $module${part:+, suites $part…}"
      log=$folder/$module$part.log
      ${run[@]+"${run[@]}"} swift test --skip-build --scratch-path "$folder" "${flags[@]}" --filter "^$module\.$part" ${skipped[@]+"${skipped[@]}"} \
        >"$log" 2>&1 || { failed=1; grep '^✘' "$log" || tail -n 20 "$log"; }
      grep '^✔ Test run' "$log" || true
    done
  done
  # The only output that is no report: an allocation that failed, as it must.
  if grep -qvrE '^==[0-9]+==WARNING: AddressSanitizer failed to allocate' "$reports"; then
    failed=1
    grep -hrE 'SUMMARY|runtime error' "$reports" | sort | uniq -c
    echo "sanitize: see $folder/reports" >&2
  fi
done
[ $failed -eq 0 ]
