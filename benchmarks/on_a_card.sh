#!/usr/bin/env bash
# All that needs a CUDA device, in at most 8 minutes: the tests marked gpu, then benchmarks/gpu.py.
#
# Run: benchmarks/on_a_card.sh [FOLDER]    PYTHON=python3 where that is the one with torch
#
# tests.txt and gpu.txt in FOLDER [.] have all that is printed. Without a device it says so and ends with 0.
set -uo pipefail
folder=$(realpath "${1:-.}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python} failed=0
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1

"$python" -c 'import torch; raise SystemExit(not torch.cuda.is_available())' || {
    echo "No CUDA device: torch finds none. Nothing was tested or measured."
    exit 0
}
timeout 190 "$python" -m pytest -q -m gpu -p no:cacheprovider tests/kernels/test_gpu.py 2>&1 | tee "$folder/tests.txt" || failed=1
timeout 280 "$python" benchmarks/gpu.py 2>&1 | tee "$folder/gpu.txt" || failed=1
exit $failed
