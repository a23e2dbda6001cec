#!/bin/bash
# Checks the models of the lock-free protocols, and that each deliberately broken variant is caught.
#
#   run.sh            everything, under three minutes on two processors
#   run.sh --quick    the same variants with smaller models, for every commit
#   run.sh NAME...    only the entries whose names match, as they are in the full run
#
# Needs spin and a C compiler (on Debian: apt-get install spin gcc). Writes to a temporary directory only.
#
# One line for each entry: what was expected, what came out, how many states were stored, how deep the search went, the
# memory and the seconds of the search. Exits with 1 if anything came out differently from what was expected.

set -u
models=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
compiler=${CC:-cc}
jobs=${MODEL_JOBS:-2}
memory_mb=3000

# kind | name | model | flags | flags in the quick run (“=”: the same; “-”: left out)
#
#   holds     the code as it is: no error may be found
#   broken    made wrong on purpose: an error must be found; “stuck”: somebody sleeps for ever, “assert”: something
#             wrong was seen
#   defect    the code as it is, and the error is a known one (README.md)
entries() {
  sed -e '/^ *#/d' -e '/^$/d' <<'TABLE'
holds         |records                        |records   |                              |-DMESSAGES=4
holds         |records-weak                   |records   |-DWEAK                        |-DWEAK -DMESSAGES=3
holds         |records-two-growths            |records   |-DGROWTHS=2                   |-
holds         |records-capacity-12            |records   |-DCAPACITY=12                 |-
broken assert |TERMINATOR_AFTER_COMMIT        |records   |-DTERMINATOR_AFTER_COMMIT     |=
broken assert |COMMIT_BEFORE_PAYLOAD          |records   |-DCOMMIT_BEFORE_PAYLOAD       |=
broken assert |RELAXED_COMMIT                 |records   |-DRELAXED_COMMIT -DWEAK       |=
broken assert |BATCH_COMMITTED_FIRST          |records   |-DBATCH_COMMITTED_FIRST -DWEAK|=
broken assert |HEADER_WITHOUT_ACQUIRE         |records   |-DHEADER_WITHOUT_ACQUIRE      |=
broken assert |NO_WRAP_TERMINATOR             |records   |-DNO_WRAP_TERMINATOR          |=
broken assert |LINK_BEFORE_SEGMENT            |records   |-DLINK_BEFORE_SEGMENT         |=
broken assert |NO_RESERVE                     |records   |-DNO_RESERVE                  |=
broken assert |RELEASE_BEFORE_READ            |records   |-DRELEASE_BEFORE_READ         |=
broken stuck  |RECORD_ABOVE_A_QUARTER         |records   |-DLARGEST_PAYLOAD=2           |=

holds         |sleep_wake                     |sleep_wake|                              |-
holds         |sleep_wake-weak                |sleep_wake|-DWEAK                        |-DMESSAGES=2 -DROOM=1 -DWEAK
holds         |sleep_wake-hand-over           |sleep_wake|-DHAND_OVER -DMEMBARRIER_FAILS|-DMESSAGES=2 -DROOM=1 -DHAND_OVER -DMEMBARRIER_FAILS
holds         |sleep_wake-two-sleepers        |sleep_wake|-DTWO_SLEEPERS -DMESSAGES=2   |-
holds         |sleep_wake-two-sleepers-epoll  |sleep_wake|-DTWO_SLEEPERS -DEPOLL_DRIVER -DMESSAGES=2|-DTWO_SLEEPERS -DEPOLL_DRIVER -DMESSAGES=1 -DROOM=1
holds         |hostile-producer               |sleep_wake|-DHOSTILE_PRODUCER -DMESSAGES=2|-DHOSTILE_PRODUCER -DMESSAGES=1 -DHOSTILE_STEPS=1
holds         |hostile-producer-no-membarrier |sleep_wake|-DHOSTILE_PRODUCER -DPOLLS -DMEMBARRIER_FAILS -DMESSAGES=1|-
holds         |hostile-consumer               |sleep_wake|-DHOSTILE_CONSUMER            |=
broken stuck  |NO_FENCE_PRODUCER              |sleep_wake|-DNO_FENCE_PRODUCER           |=
broken stuck  |NO_FENCE_CONSUMER              |sleep_wake|-DNO_FENCE_CONSUMER           |=
broken stuck  |LOOK_BEFORE_ANNOUNCE           |sleep_wake|-DLOOK_BEFORE_ANNOUNCE        |=
broken stuck  |SKIP_FENCE_WITHOUT_REGISTRATION|sleep_wake|-DSKIP_FENCE_WITHOUT_REGISTRATION -DMESSAGES=2 -DROOM=1|=
broken stuck  |NO_MEMBARRIER                  |sleep_wake|-DNO_MEMBARRIER               |=
broken stuck  |POLLING_TAKEN_BACK_WITHOUT_BARRIER|sleep_wake|-DPOLLING_TAKEN_BACK_WITHOUT_BARRIER|=
broken stuck  |HAND_OVER_WITHOUT_BARRIER      |sleep_wake|-DHAND_OVER -DHAND_OVER_WITHOUT_BARRIER|=
broken stuck  |NO_SPACE_WAKE_ON_FAILURE       |sleep_wake|-DMEMBARRIER_FAILS -DNO_SPACE_WAKE_ON_FAILURE -DMESSAGES=2 -DROOM=1|=
broken assert |PROMISE_READ_BACK              |sleep_wake|-DHOSTILE_PRODUCER -DPOLLS -DPROMISE_READ_BACK -DMESSAGES=1|=
broken stuck  |WAKE_ONE_WITH_STALE_WAITER     |sleep_wake|-DWAKE_ONE_WITH_STALE_WAITER  |=
broken stuck  |NO_FENCE_RELEASE               |sleep_wake|-DNO_FENCE_RELEASE -DMESSAGES=2 -DROOM=1|=
broken stuck  |NO_FENCE_SPACE_SLEEPER         |sleep_wake|-DNO_FENCE_SPACE_SLEEPER -DMESSAGES=2 -DROOM=1|=
broken stuck  |LOOK_BEFORE_ANNOUNCE_SPACE     |sleep_wake|-DLOOK_BEFORE_ANNOUNCE_SPACE -DMESSAGES=2 -DROOM=1|=
broken stuck  |SLEEP_WITHOUT_RELEASE          |sleep_wake|-DSLEEP_WITHOUT_RELEASE -DMESSAGES=2 -DROOM=1|=
broken stuck  |LEFT_WITHOUT_RINGING           |sleep_wake|-DTWO_SLEEPERS -DLEFT_WITHOUT_RINGING -DMESSAGES=2|-
broken stuck  |LEFT_WITHOUT_RINGING-epoll     |sleep_wake|-DTWO_SLEEPERS -DEPOLL_DRIVER -DLEFT_WITHOUT_RINGING -DMESSAGES=1|=
broken stuck  |HANDLER_GONE_WITHOUT_RINGING   |sleep_wake|-DTWO_SLEEPERS -DEPOLL_DRIVER -DHANDLER_GONE_WITHOUT_RINGING -DMESSAGES=1|=
broken stuck  |RINGS_THE_DOORBELL_ONLY        |sleep_wake|-DHOSTILE_PRODUCER -DRINGS_THE_DOORBELL_ONLY -DMESSAGES=1|=
broken stuck  |RINGS_THE_DOORBELL_ONLY-space  |sleep_wake|-DHOSTILE_CONSUMER -DRINGS_THE_DOORBELL_ONLY|=
broken stuck  |TICKET_AFTER_UNLOCK            |sleep_wake|-DHOSTILE_PRODUCER -DTICKET_AFTER_UNLOCK -DMESSAGES=1|=
broken stuck  |RING_BEFORE_STATE              |sleep_wake|-DHOSTILE_PRODUCER -DRING_BEFORE_STATE -DMESSAGES=1|=
broken stuck  |RING_WITHOUT_COUNTING          |sleep_wake|-DHOSTILE_PRODUCER -DRING_WITHOUT_COUNTING -DMESSAGES=1|=

holds         |close                          |close     |                              |-DMESSAGES=1
holds         |close-epoll                    |close     |-DEPOLL_DRIVER                |-DEPOLL_DRIVER -DMESSAGES=1
holds         |close-receive-thread           |close     |-DRECEIVE_THREAD              |=
holds         |close-second-poster            |close     |-DSECOND_POSTER -DMESSAGES=1  |-
holds         |close-failed-transfer          |close     |-DFAILED_TRANSFER -DMESSAGES=2|-
holds         |close-failed-transfer-thread   |close     |-DFAILED_TRANSFER -DRECEIVE_THREAD -DMESSAGES=1|-
holds         |close-hostile                  |close     |-DHOSTILE -DRECEIVE_THREAD -DMESSAGES=1|-DHOSTILE -DRECEIVE_THREAD -DMESSAGES=0
broken assert |COMMIT_BEFORE_PAYLOAD-killed   |close     |-DCOMMIT_BEFORE_PAYLOAD       |=
broken assert |CLOSE_WITHOUT_LOCK             |close     |-DCLOSE_WITHOUT_LOCK -DSECOND_POSTER|=
broken assert |WATCH_AFTER_LOOK_WITHOUT_LEVEL |close     |-DWATCH_AFTER_LOOK_WITHOUT_LEVEL -DMESSAGES=1|=
broken assert |HANGUP_WITHOUT_RINGING         |close     |-DHANGUP_WITHOUT_RINGING -DRECEIVE_THREAD|=
broken assert |HANGUP_RINGS_THE_DOORBELL_ONLY |close     |-DHOSTILE -DRECEIVE_THREAD -DHANGUP_RINGS_THE_DOORBELL_ONLY -DMESSAGES=0|=
broken assert |HANGUP_WITHOUT_DRAIN           |close     |-DHANGUP_WITHOUT_DRAIN        |=
broken assert |HANGUP_AS_THE_LAST_EVENT       |close     |-DHANGUP_AS_THE_LAST_EVENT    |=
broken assert |CLOSE_NOT_REMEMBERED           |close     |-DCLOSE_NOT_REMEMBERED        |=
broken assert |NO_GO_ON_AFTER_REFUSAL         |close     |-DFAILED_TRANSFER -DNO_GO_ON_AFTER_REFUSAL|=
broken assert |REFUSAL_WITHOUT_RINGING        |close     |-DFAILED_TRANSFER -DRECEIVE_THREAD -DREFUSAL_WITHOUT_RINGING -DMESSAGES=1|=
broken assert |ASYNC_WAITER                   |close     |-DASYNC_WAITER -DMESSAGES=1 -DUNREPAIRED|-
holds         |ASYNC_WAITER-repaired          |close     |-DASYNC_WAITER -DMESSAGES=1|-
defect assert |CLOSE_FROM_ANOTHER_THREAD      |close     |-DCLOSE_FROM_ANOTHER_THREAD   |=

holds         |announce                       |announce  |                              |-DPOSTS=2
holds         |announce-hostile               |announce  |-DHOSTILE                     |-DHOSTILE -DHOSTILE_STEPS=3
broken assert |PACKET_BEFORE_RECORD           |announce  |-DPACKET_BEFORE_RECORD        |=
broken assert |REFUSED_WITHOUT_WITHDRAWAL     |announce  |-DREFUSED_WITHOUT_WITHDRAWAL  |=
broken assert |NEXT_BEFORE_PACKET             |announce  |-DNEXT_BEFORE_PACKET          |=
broken assert |LANE_BEFORE_PACKET             |announce  |-DLANE_BEFORE_PACKET          |=
broken assert |INCOMPLETE_MESSAGE_WAITS       |announce  |-DINCOMPLETE_MESSAGE_WAITS -DPOSTS=1|=
broken assert |UNANNOUNCED_PACKETS_WAIT       |announce  |-DHOSTILE -DUNANNOUNCED_PACKETS_WAIT|=
broken assert |EMPTIED_WITHOUT_PEEKING        |announce  |-DHOSTILE -DEMPTIED_WITHOUT_PEEKING|=
broken assert |PACKET_WITHOUT_RINGING         |announce  |-DHOSTILE -DPACKET_WITHOUT_RINGING|=

holds         |transfer-incoming              |transfer  |-DMESSAGES_0=0 -DSTALE_WAITER |-DMESSAGES_0=0 -DMESSAGES_1=1
holds         |transfer-outgoing              |transfer  |-DMESSAGES_0=2 -DMESSAGES_1=0 |=
holds         |transfer-intermediary-dies     |transfer  |-DMESSAGES_0=0 -DMESSAGES_1=1 -DCAN_DIE -DCAN_CLOSE|-
holds         |transfer-both-ends             |transfer  |-DLAST_HOST_0=1 -DLAST_HOST_1=1 -DMESSAGES_0=0|-
holds         |transfer-both-ends-die         |transfer  |-DLAST_HOST_0=1 -DLAST_HOST_1=1 -DMESSAGES_0=0 -DMESSAGES_1=1 -DCAN_DIE -DCAN_CLOSE|-
broken stuck  |POSITION_BEFORE_LAST_POST      |transfer  |-DMESSAGES_0=2 -DMESSAGES_1=0 -DPOSITION_BEFORE_LAST_POST|=
broken assert |RECORD_WITHOUT_PACKET          |transfer  |-DMESSAGES_0=0 -DRECORD_WITHOUT_PACKET|=
broken assert |HANGUP_ON_DETACH               |transfer  |-DMESSAGES_0=0 -DHANGUP_ON_DETACH|=
broken assert |QUEUED_PACKETS_DO_NOT_HOLD     |transfer  |-DMESSAGES_0=0 -DQUEUED_PACKETS_DO_NOT_HOLD|=
broken stuck  |LOOK_BEFORE_ANNOUNCE-new-owner |transfer  |-DMESSAGES_0=0 -DLOOK_BEFORE_ANNOUNCE|=
broken stuck  |WAKE_ONE_WITH_STALE_WAITER-old |transfer  |-DLAST_HOST_0=1 -DMESSAGES_0=0 -DWAKE_ONE_WITH_STALE_WAITER -DSTALE_WAITER|=
broken stuck  |DETACH_SILENCES_DOORBELL       |transfer  |-DMESSAGES_0=0 -DEPOLL_DRIVER -DDETACH_SILENCES_DOORBELL|=
broken stuck  |OLD_LOOP_DRAINS                |transfer  |-DMESSAGES_0=0 -DEPOLL_DRIVER -DUNREPAIRED|=
holds         |OLD_LOOP_DRAINS-repaired       |transfer  |-DMESSAGES_0=0 -DEPOLL_DRIVER|=
holds         |OLD_LOOP_DRAINS-mixed-repaired |transfer  |-DMESSAGES_0=0 -DMESSAGES_1=1 -DMIXED_DRIVERS|-
TABLE
}

# Runs one entry in its own directory; writes its line there.
check_entry() {
  local expectation=$1 name=$2 model=$3 flags=$4
  local directory=$work/$name optimisation=-O2
  mkdir -p "$directory" && cd "$directory" || return
  # Most of the time goes to compiling: only a long search is worth more of it.
  if ${MODEL_QUICK:-false} || [[ $expectation != holds* ]]; then optimisation=-O0; fi
  # shellcheck disable=SC2086
  if ! spin -a $flags "$models/$model.pml" >spin.txt 2>&1 ||
    ! "$compiler" "$optimisation" -w -DSAFETY -DCOLLAPSE -DMEMLIM=$memory_mb -o pan pan.c >compiler.txt 2>&1; then
    printf '%-32s %-8s %-10s\n' "$name" "${expectation%% *}" "NO MODEL" >line
    cat spin.txt compiler.txt >>line 2>/dev/null
    touch failed
    return
  fi
  nice -n 10 ./pan -m100000 -w22 >pan.txt 2>&1

  local outcome=incomplete
  if grep -q 'assertion violated' pan.txt; then
    outcome=assert
  elif grep -q 'invalid end state (at' pan.txt; then
    outcome=stuck
  elif grep -q 'errors: 0' pan.txt && ! grep -qE 'search depth too small|out of memory|Search not completed' pan.txt; then
    outcome=holds
  fi
  local wanted
  case $expectation in
    holds*) wanted=holds ;;
    *) wanted=${expectation#* } ;;
  esac
  local verdict=''
  if [[ $outcome != "$wanted" ]]; then
    verdict="  UNEXPECTED: wanted $wanted"
    touch failed
  fi
  local states depth memory seconds
  states=$(awk '/states, stored/ { print $1; exit }' pan.txt)
  depth=$(sed -n 's/.*depth reached \([0-9]*\).*/\1/p' pan.txt)
  memory=$(awk '/total actual memory usage/ { print int($1) }' pan.txt)
  seconds=$(sed -n 's/.*elapsed time \([0-9.e+]*\) seconds/\1/p' pan.txt)
  printf '%-32s %-7s %-7s %10s %6s %6s MB %7s s%s\n' \
    "$name" "${expectation%% *}" "$outcome" "$states" "$depth" "$memory" "$seconds" "$verdict" >line
}

if [[ ${1-} == --entry ]]; then
  work=$2
  check_entry "$3" "$4" "$5" "$6"
  exit
fi

for tool in spin "$compiler"; do
  command -v "$tool" >/dev/null || { echo "run.sh: $tool is not installed" >&2; exit 2; }
done
quick=false
[[ ${1-} == --quick ]] && { quick=true; shift; }
export MODEL_QUICK=$quick
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
started=$SECONDS

while IFS='|' read -r expectation name model flags quick_flags; do
  trim() { local text=$1; text=${text#"${text%%[! ]*}"}; printf '%s' "${text%"${text##*[! ]}"}"; }
  expectation=$(trim "$expectation") name=$(trim "$name") model=$(trim "$model")
  flags=$(trim "$flags") quick_flags=$(trim "$quick_flags")
  if $quick; then
    [[ $quick_flags == - ]] && continue
    [[ $quick_flags != = ]] && flags=$quick_flags
  fi
  if (($# > 0)); then
    matches=false
    for pattern in "$@"; do [[ $name == *$pattern* ]] && matches=true; done
    $matches || continue
  fi
  printf '%s\0' "$expectation" "$name" "$model" "$flags"
  echo "$name" >>"$work/order"
done < <(entries) >"$work/list"
[[ -s $work/list ]] || { echo "run.sh: no such entry" >&2; exit 2; }

xargs -0 -n 4 -P "$jobs" "${BASH_SOURCE[0]}" --entry "$work" <"$work/list"

printf '%-32s %-7s %-7s %10s %6s %9s %9s\n' name kind outcome states depth memory search
while read -r name; do cat "$work/$name/line"; done <"$work/order"
total=$(wc -l <"$work/order")
unexpected=$(find "$work" -name failed | wc -l)
echo "$((total - unexpected)) of $total as expected, $((SECONDS - started)) s"
((unexpected == 0))
