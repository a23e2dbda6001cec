#!/usr/bin/env bash
# Checks what no compiler checks: rules that tests cite, labels of orderings, names in the models, links, code in
# documents, and that everything public is documented.
# Usage: lint.sh [folder with the build; .build/debug]. `swift build --build-tests` comes first.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-.build/debug}
# shellcheck source=scripts/modules.sh
source scripts/modules.sh

failed=0
for check in rules orderings models links; do python3 "scripts/lint/$check.py" || failed=1; done
python3 scripts/mutants.py --check || failed=1
python3 scripts/lint/snippets.py "$build/Modules" "${clang_modules[@]}" || failed=1
scripts/docs.sh "$build" || failed=1
[ $failed -eq 0 ] || { echo "lint: see above" >&2; exit 1; }
