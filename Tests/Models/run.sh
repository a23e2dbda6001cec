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

holds         |sleep_wake                     |sleep_wake|                              |-DMESSAGES=2 -DROOM=1
holds         |sleep_wake-weak                |sleep_wake|-DWEAK                        |-DMESSAGES=2 -DROOM=1 -DWEAK
broken stuck  |NO_FENCE_PRODUCER              |sleep_wake|-DNO_FENCE_PRODUCER           |=
broken stuck  |NO_FENCE_CONSUMER              |sleep_wake|-DNO_FENCE_CONSUMER           |=
broken stuck  |LOOK_BEFORE_ANNOUNCE           |sleep_wake|-DLOOK_BEFORE_ANNOUNCE        |=
broken stuck  |SKIP_FENCE_WITHOUT_REGISTRATION|sleep_wake|-DSKIP_FENCE_WITHOUT_REGISTRATION|=
broken stuck  |NO_MEMBARRIER                  |sleep_wake|-DNO_MEMBARRIER               |=
broken stuck  |WAKE_ONE_WITH_STALE_WAITER     |sleep_wake|-DWAKE_ONE_WITH_STALE_WAITER  |=
broken stuck  |NO_FENCE_RELEASE               |sleep_wake|-DNO_FENCE_RELEASE            |=
broken stuck  |NO_FENCE_SPACE_SLEEPER         |sleep_wake|-DNO_FENCE_SPACE_SLEEPER      |=
broken stuck  |LOOK_BEFORE_ANNOUNCE_SPACE     |sleep_wake|-DLOOK_BEFORE_ANNOUNCE_SPACE  |=
broken stuck  |SLEEP_WITHOUT_RELEASE          |sleep_wake|-DSLEEP_WITHOUT_RELEASE       |=
broken stuck  |AWAKE_FROM_POLLING             |sleep_wake|-DAWAKE_FROM_POLLING -DUNREPAIRED|=
holds         |AWAKE_FROM_POLLING-repaired    |sleep_wake|-DAWAKE_FROM_POLLING|-
broken stuck  |MEMBARRIER_FAILS               |sleep_wake|-DMEMBARRIER_FAILS -DUNREPAIRED|=
holds         |MEMBARRIER_FAILS-repaired      |sleep_wake|-DMEMBARRIER_FAILS|-
broken stuck  |TWO_SLEEPERS                   |sleep_wake|-DTWO_SLEEPERS -DUNREPAIRED|=
holds         |TWO_SLEEPERS-repaired          |sleep_wake|-DTWO_SLEEPERS|-
broken stuck  |TWO_SLEEPERS-epoll             |sleep_wake|-DTWO_SLEEPERS -DEPOLL_DRIVER -DUNREPAIRED|=
holds         |TWO_SLEEPERS-epoll-repaired    |sleep_wake|-DTWO_SLEEPERS -DEPOLL_DRIVER|-

holds         |close                          |close     |                              |-DMESSAGES=1
holds         |close-epoll                    |close     |-DEPOLL_DRIVER                |-DEPOLL_DRIVER -DMESSAGES=1
holds         |close-receive-thread           |close     |-DRECEIVE_THREAD              |=
holds         |close-second-poster            |close     |-DSECOND_POSTER -DMESSAGES=1  |-
holds         |close-failed-transfer          |close     |-DFAILED_TRANSFER -DMESSAGES=2|-
broken assert |COMMIT_BEFORE_PAYLOAD-killed   |close     |-DCOMMIT_BEFORE_PAYLOAD       |=
broken assert |CLOSE_WITHOUT_LOCK             |close     |-DCLOSE_WITHOUT_LOCK -DSECOND_POSTER|=
broken assert |WATCH_AFTER_LOOK_WITHOUT_LEVEL |close     |-DWATCH_AFTER_LOOK_WITHOUT_LEVEL -DMESSAGES=1|=
broken assert |HANGUP_WITHOUT_WAKING_SLEEPERS |close     |-DHANGUP_WITHOUT_WAKING_SLEEPERS -DRECEIVE_THREAD|=
broken assert |HANGUP_WITHOUT_DRAIN           |close     |-DHANGUP_WITHOUT_DRAIN        |=
broken assert |HANGUP_AS_THE_LAST_EVENT       |close     |-DHANGUP_AS_THE_LAST_EVENT    |=
broken assert |CLOSE_NOT_REMEMBERED           |close     |-DCLOSE_NOT_REMEMBERED        |=
broken assert |NO_GO_ON_AFTER_REFUSAL         |close     |-DFAILED_TRANSFER -DNO_GO_ON_AFTER_REFUSAL|=
broken assert |FAILED_TRANSFER-receive-thread |close     |-DFAILED_TRANSFER -DRECEIVE_THREAD -DMESSAGES=2 -DUNREPAIRED|=
holds         |FAILED_TRANSFER-rec.-repaired  |close     |-DFAILED_TRANSFER -DRECEIVE_THREAD -DMESSAGES=2|-
broken assert |ASYNC_WAITER                   |close     |-DASYNC_WAITER -DMESSAGES=1 -DUNREPAIRED|-
holds         |ASYNC_WAITER-repaired          |close     |-DASYNC_WAITER -DMESSAGES=1|-
defect assert |CLOSE_FROM_ANOTHER_THREAD      |close     |-DCLOSE_FROM_ANOTHER_THREAD   |=

holds         |transfer-incoming              |transfer  |-DMESSAGES_0=0 -DSTALE_WAITER |-DMESSAGES_0=0 -DMESSAGES_1=1
holds         |transfer-outgoing              |transfer  |-DMESSAGES_0=2 -DMESSAGES_1=0 |=
holds         |transfer-intermediary-dies     |transfer  |-DMESSAGES_0=0 -DMESSAGES_1=1 -DCAN_DIE -DCAN_CLOSE|-
holds         |transfer-both-ends             |transfer  |-DLAST_HOST_0=1 -DLAST_HOST_1=1 -DMESSAGES_0=0|-
holds         |transfer-both-ends-die         |transfer  |-DLAST_HOST_0=1 -DLAST_HOST_1=1 -DMESSAGES_0=0 -DMESSAGES_1=1 -DCAN_DIE -DCAN_CLOSE|-
broken stuck  |POSITION_BEFORE_LAST_POST      |transfer  |-DMESSAGES_0=2 -DMESSAGES_1=0 -DPOSITION_BEFORE_LAST_POST|=
broken assert |RECORD_BEFORE_PACKET           |transfer  |-DMESSAGES_0=0 -DRECORD_BEFORE_PACKET|=
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
  case $expectation in broken*) optimisation=-O0 ;; defect*) optimisation=-O1 ;; esac  # most of the time goes to compiling
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
    holds* | repair*) wanted=holds ;;
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
