#!/usr/bin/env bash
# Builds the documentation of the public interface from what `swift build` has built, without a warning, and checks the
# links in the comments of everything else. Usage: docs.sh [folder with the build; .build/debug]
# What comes out is in .build/documentation: `python3 -m http.server -d .build/documentation/MessagePorts`.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-.build/debug} out=.build/documentation
# shellcheck source=scripts/modules.sh
source scripts/modules.sh

rm -rf "$out"
mkdir -p "$out"
failed=0

# graph LEVEL MODULE: the symbols of a module, and of what it adds to others, in a folder of their own.
graph() {
  local folder=$out/$1/$2
  mkdir -p "$folder"
  swift-symbolgraph-extract -module-name "$2" -target "$target" -I "$build/Modules" "${clang_modules[@]}" \
    -minimum-access-level "$1" -skip-synthesized-members -output-dir "$folder" >&2
}

for module in MessagePorts MessagePortsFoundation; do
  graph public "$module"
  docc convert "Sources/$module/$module.docc" --additional-symbol-graph-dir "$out/public/$module" \
    --output-path "$out/$module" --fallback-display-name "$module" --fallback-bundle-identifier "$module" \
    --warnings-as-errors | sed "/^$/d" || failed=1
done

# Only links are checked in what is not public.
for module in SharedRing MessageCoding MessagePorts; do
  graph private "$module"
  docc convert --additional-symbol-graph-dir "$out/private/$module" --output-path "$out/unused" \
    --fallback-display-name "$module" --fallback-bundle-identifier "$module" >"$out/$module.log" 2>&1 || true
  if grep -A 1 -E "(warning|error): '.*' (doesn't exist|is ambiguous) at" "$out/$module.log"; then failed=1; fi
done
rm -rf "$out/unused"

# The library hands out types of the layers below as well.
python3 scripts/lint/documentation.py "$out"/public/*/*.json "$out"/private/{SharedRing,MessageCoding}/*.json || failed=1
[ $failed -eq 0 ] || { echo "docs: see above" >&2; exit 1; }
