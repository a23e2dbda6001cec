#!/usr/bin/env bash
# Draws results/report.html and the pictures of the README from results/latest.jsonl. matplotlib goes into .build-report.
set -euo pipefail
cd "$(dirname "$0")"

if [ ! -x .build-report/bin/python ] || ! .build-report/bin/python -c 'import matplotlib' 2>/dev/null; then
  python3 -m venv .build-report && .build-report/bin/pip install --quiet 'matplotlib>=3.8' || {
    echo "report: no matplotlib here, so no report.html; the figures are in results/latest.jsonl" >&2
    exit 0
  }
fi
.build-report/bin/python report.py "$@"
