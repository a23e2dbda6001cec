#!/usr/bin/env bash
# Formats the Swift code as .swift-format says. Usage: format.sh          formats
#                                                      format.sh --check  changes nothing, fails if that would
# The formatter is the toolchain's own. What is kept as it is stands behind `// swift-format-ignore`.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.swift' | while read -r file; do
  [ ! -f "$file" ] || echo "$file"
done)
case ${1-} in
  "") swift format format --in-place --parallel "${files[@]}" ;;
  --check)
    swift format lint --strict --parallel "${files[@]}" || { echo "format: to mend it, type: make format" >&2; exit 1; } ;;
  *) echo "usage: format.sh [--check]" >&2; exit 64 ;;
esac
