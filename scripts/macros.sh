#!/usr/bin/env bash
# Tests the macro `@MessageValue`, in a package of its own, and sees that nobody else has to do with swift-syntax.
set -euo pipefail
cd "$(dirname "$0")/.."

# Built anew: the compiler does not notice that a plugin has changed.
touch Tests/Macros/Tests/DerivedTests/*.swift
swift test --package-path Tests/Macros --scratch-path .build-macros

# Whoever does without the trait does not even fetch it: the suite of the main package, and the examples.
for build in .build Examples/.build; do
  [ ! -e "$build/checkouts/swift-syntax" ] || { echo "macros: $build has swift-syntax, without the trait" >&2; exit 1; }
done
