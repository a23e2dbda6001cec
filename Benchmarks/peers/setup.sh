#!/usr/bin/env bash
# Installs the Debian packages the peers need and this machine lacks. A peer that cannot be installed is left out:
# the Makefile says so and goes on without it.
set -uo pipefail
cd "$(dirname "$0")"

# One call per peer, so that one missing package costs one peer only. Node in another packaging counts as installed.
peers=(
  "make gcc g++ liburing-dev"
  "libck-dev"
  "libboost-dev"
  "libreaderwriterqueue-dev"
  "libatomic-queue-dev"
  "libconcurrentqueue-dev"
  "libzmq3-dev"
  "libnng-dev"
  "libnanomsg-dev"
  "libsystemd-dev"
  "libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc"
  "libcapnp-dev capnproto"
  "libopenmpi-dev openmpi-bin"
  "libiceoryx-posh-dev iceoryx"
  "chromium"
)
command -v node >/dev/null || peers+=("nodejs")

left_out=0
for packages in "${peers[@]}"; do
  # shellcheck disable=SC2086  # several package names in one string
  ../../scripts/setup.sh $packages || {
    echo "peers: cannot install $packages; that peer is left out" >&2
    left_out=$((left_out + 1))
  }
done
echo "peers: $((${#peers[@]} - left_out)) of ${#peers[@]} groups of packages installed"
