#!/usr/bin/env bash
# Builds, then runs every program that could be built, one after the other. Arguments go to each: see README.md.
# One JSON line per figure on standard output; everything else on standard error. Status 1 if any figure is missing.
set -uo pipefail
cd "$(dirname "$0")"
make --silent >&2 || exit 1

status=0
for program in limits ck_ring boost_spsc readerwriterqueue atomic_queue concurrentqueue boost_message_queue posix_mq \
  zeromq_ipc nng nanomsg sd_bus grpc capnproto openmpi iceoryx; do
  [ -x ".build-peers/$program" ] || continue
  ".build-peers/$program" "$@" || status=1
done
for program in node_worker_threads node_child_process chromium_message_channel; do
  command -v node >/dev/null || break
  [ "$program" != chromium_message_channel ] || command -v chromium >/dev/null || continue
  node "$program.js" "$@" || status=1
done
exit $status
