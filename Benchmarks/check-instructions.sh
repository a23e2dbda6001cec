#!/usr/bin/env bash
# Counts the instructions that a message of 8 bytes costs in some small loops, a request, and a value of five fields that is
# written or read, and compares with instructions.txt. A count is repeatable where a time is not: one more instruction per
# message than allowed is an error.
#
#     check-instructions.sh             prints the counts and the disassembly of the loops; status 1 if there are more
#     check-instructions.sh --quiet     the same without the disassembly
#     check-instructions.sh --update    writes instructions.txt anew
#     check-instructions.sh --report    also adds the counts to results/latest.jsonl
#
# Each loop runs twice under callgrind, with different numbers of messages: the difference is the message alone. On one
# processor nobody spins, so that nothing depends on time; callgrind knows no io_uring, so the event loop is on epoll.
set -euo pipefail
cd "$(dirname "$0")"

mode=${1:-}
programs=(instructions value-instructions)
few=10000 many=30000
architecture=$(uname -m)
loops=(fast-write fast-read port-post port-deliver port-receive port-sequence port-request
  value-write value-read codable-write codable-read)

command -v valgrind >/dev/null || {
  echo "check-instructions: valgrind is missing: apt-get install valgrind" >&2
  exit 3
}
touch instructions.txt
mkdir -p results
for program in "${programs[@]}"; do
  swift build -c release --scratch-path .build --product "$program" >&2
  # Debian 12's valgrind cannot read the debug information that Swift writes.
  objcopy --strip-debug ".build/release/$program" ".build/$program-without-debug-information"
done

program_of() {
  case $1 in
    value-* | codable-*) echo value-instructions ;;
    *) echo instructions ;;
  esac
}

# The function whose instructions are counted, with all that it calls, as part of its mangled name.
counted_function() {
  case $1 in
    fast-write) echo fastWriteLoop ;;
    fast-read) echo fastReadLoop ;;
    port-post) echo portPostLoop ;;
    port-receive) echo portReceiveLoop ;;
    value-write) echo directWriteLoop ;;
    value-read) echo directReadLoop ;;
    codable-write) echo codableWriteLoop ;;
    codable-read) echo codableReadLoop ;;
    port-deliver | port-sequence | port-request) echo LoopRunnerV3run ;;
  esac
}

instructions() { # loop, number of messages
  local out
  out=$(mktemp .build/callgrind.XXXXXX)
  MESSAGEPORTS_DRIVER=epoll taskset -c 0 valgrind --quiet --tool=callgrind --callgrind-out-file="$out" \
    --toggle-collect="*$(counted_function "$1")*" ".build/$(program_of "$1")-without-debug-information" "$1" "$2" >&2
  sed -n 's/^summary: *//p' "$out"
  rm -f "$out"
}

allowed() { awk -v a="$architecture" -v l="$1" '$1 == a && $2 == l { print $3 }' instructions.txt; }

status=0
declare -A counts
count() { # loop: instructions per message
  awk -v m="$(instructions "$1" $many)" -v f="$(instructions "$1" $few)" -v n=$((many - few)) \
    'BEGIN { printf "%.1f", (m - f) / n }'
}

# The surroundings of a loop may vary by half an instruction.
is_more() { ! awk -v c="$1" -v m="$2" 'BEGIN { exit !(c <= m + 0.5) }'; }

for loop in "${loops[@]}"; do
  counts[$loop]=$(count "$loop")
  most=$(allowed "$loop")
  # A turn of the event loop ends by the clock, so on a busy machine there are more of them: the least of three counts.
  for _ in 1 2; do
    is_more "${counts[$loop]}" "${most:-0}" || break
    again=$(count "$loop")
    counts[$loop]=$(awk -v a="${counts[$loop]}" -v b="$again" 'BEGIN { print (b < a ? b : a) }')
  done
  printf '%-14s %8s instructions per message, %s allowed\n' "$loop" "${counts[$loop]}" "${most:-none}"
  # The name of a counted function may have been mangled away, or all that it does have been found useless.
  if [ "${counts[$loop]}" = 0.0 ]; then
    echo "check-instructions: nothing of $loop was counted" >&2
    status=1
  fi
  if [ "$mode" != --update ] && is_more "${counts[$loop]}" "${most:-0}"; then
    echo "check-instructions: $loop takes more instructions per message than allowed" >&2
    status=1
  fi
done

if [ "$mode" = --update ]; then
  {
    echo "# Instructions per message of 8 bytes, at most: written by check-instructions.sh --update."
    echo "# $(swift --version 2>/dev/null | head -1)"
    grep -v -e '^#' -e "^$architecture " instructions.txt || true
    for loop in "${loops[@]}"; do echo "$architecture $loop $(awk -v c="${counts[$loop]}" 'BEGIN { print (c == int(c) ? int(c) : int(c) + 1) }')"; done
  } >.build/instructions.txt
  mv .build/instructions.txt instructions.txt
  exit 0
fi

if [ "$mode" = --report ] && [ -f results/latest.jsonl ]; then
  sed -i '/"metric":"instructions_per_msg"/d' results/latest.jsonl
  for loop in "${loops[@]}"; do
    awk -v tier="${loop%%-*}" -v what="${loop##*-}" -v c="${counts[$loop]}" -v m="$(allowed "$loop")" 'BEGIN {
      limit = m == "" ? "null" : m; ratio = m == "" ? "null" : sprintf("%.4g", c / m)
      printf "{\"who\":\"swift-message-ports (%s)\",\"tier\":\"%s\",\"metric\":\"instructions_per_msg\",\"size\":8,", what, tier
      printf "\"value\":%s,\"min\":%s,\"max\":%s,\"unit\":\"instructions\",\"limit\":%s,\"ratio\":%s,", c, c, c, limit, ratio
      printf "\"limit_is\":\"instructions.txt\",\"repetitions\":1,\"includes\":\"counted by callgrind; one thread, the ring warm, epoll\"}\n"
    }' >>results/latest.jsonl
  done
fi

# What the compiler has made of the loops.
[ "$mode" != --quiet ] && {
  for function in fastWriteLoop fastReadLoop; do
    symbol=$(nm .build/release/instructions | awk -v f="$function" 'index($3, f) { print $3; exit }')
    echo
    echo "$function:"
    objdump --disassemble="$symbol" --no-show-raw-insn --no-addresses .build/release/instructions | sed -n '/>:$/,/^$/p' | sed 1d
  done
} >results/disassembly.txt 2>/dev/null || true
[ "$mode" = --quiet ] || cat results/disassembly.txt 2>/dev/null || true
exit $status
