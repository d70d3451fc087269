#!/usr/bin/env bash
# Check and measure one GPU in under 10 minutes; write one JSON file.
#
#     tools/gpu_check.sh                       results/gpu_check.json
#     tools/gpu_check.sh --out mine.json       see tools/gpu_check.sh --help
#     PYTHON=.venv/bin/python tools/gpu_check.sh
#
# Exit codes: 0 done, 1 something is wrong or failed (the file says what), 2 no GPU or wrong arguments.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python}" tools/benchmark.py gpu "$@"
