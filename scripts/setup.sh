#!/usr/bin/env bash
# Installs what building needs and this machine lacks. Usage: setup.sh [debian-package ...]
# Without arguments: what the library itself needs. Without the right to install, prints the one command to type.
set -euo pipefail

packages=("$@")
[ ${#packages[@]} -gt 0 ] || packages=(liburing-dev pkg-config)

command -v swift >/dev/null || {
  echo "setup: no Swift toolchain in PATH; this package needs Swift 6.2 or newer" >&2
  exit 1
}

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
  elevate=()
elif sudo --non-interactive true 2>/dev/null; then
  elevate=(sudo --non-interactive)
else
  echo "setup: missing Debian packages, and no right to install them here. Type this, then try again:" >&2
  echo "  sudo apt-get update && sudo apt-get install --yes ${missing[*]}" >&2
  exit 1
fi

echo "setup: installing ${missing[*]}"
"${elevate[@]}" apt-get update --quiet=2
DEBIAN_FRONTEND=noninteractive "${elevate[@]}" apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}" >/dev/null
