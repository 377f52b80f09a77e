#!/usr/bin/env bash
# Everything that is to be seen on a machine with an accelerator, in one table; the project must be installed there.
# PYTHON names the interpreter; arguments go to benchmarks/device.py (--skip demo, --device mps …).
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
exec "${PYTHON:-python}" benchmarks/device.py "$@"
