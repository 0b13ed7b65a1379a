#!/usr/bin/env bash
# All that is to be measured on a GPU machine, which needs no network, in under eight minutes: d12 of both years.
#
# on_gpu.sh SITE [FOLDER]          SITE: a folder of Python packages with MLX's CUDA build in it
# on_gpu.sh --quick SITE [FOLDER]  tiny models, on any machine: does it run?
#
# Output goes to $OUT where that is set, else to FOLDER (by default on_gpu), one file for each part. A line for each
# part says its exit status (124 or 137: out of time). A part that fails does not stop the others; the script's own
# status is how many did. The parts may take 410 seconds together, and each ten more to end.
# The machine needs python3 with NumPy, regex, tiktoken and filelock; PyTorch, if it is to be compared with.
set -u
quick=
if [ "${1-}" = --quick ]; then quick=1 && shift; fi
if [ ! -d "${1-}/mlx" ]; then
    echo "on_gpu.sh: there is no folder ${1-}/mlx; give the folder that MLX's packages are in" >&2
    exit 64
fi
site=$(realpath "$1") folder=$(realpath -m "${OUT:-${2:-on_gpu}}")
cd "$(dirname "$0")/../.." || exit
work=$(mktemp -d) failed=0
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder"
export PYTHONPATH="$site:$PWD" PYTHONUNBUFFERED=1 COURSE_HOME="$work/home"
if ! python3 -c 'import rustbpe' >/dev/null 2>&1; then # it trains tokenizers, which nothing here does
    touch "$work/rustbpe.py" && PYTHONPATH="$PYTHONPATH:$work"
fi

part() { # NAME SECONDS COMMAND …
    local name=$1 limit=$2 start=$SECONDS status
    shift 2
    timeout -k 10 "$limit" "$@" >"$folder/$name.txt" 2>&1
    status=$?
    [ $status = 0 ] || failed=$((failed + 1))
    echo "$name: exit status $status after $((SECONDS - start)) s"
}

train="python3 tests/benchmarks/bench_d12.py"
large="--sequence-len 2048 --device-batch-size 16 --steps 20" models="--depths 12"
[ -z "$quick" ] || { large="--depth 1 --sequence-len 64" models=--quick; }

part gpu 10 nvidia-smi
part packages 20 python3 -c 'import importlib.metadata, filelock, numpy, regex, tiktoken, mlx.core as mx
print("MLX", mx.__version__, mx.default_device(), mx.device_info(mx.default_device()))
print("PyTorch", *(found.version for found in importlib.metadata.distributions(name="torch")))'
part warm_up 90 python3 tests/benchmarks/bench_gpu.py --quick # MLX compiles its kernels at their first use
# shellcheck disable=SC2086 # these are several words
{
    part both_years 170 python3 tests/benchmarks/bench_gpu.py $models
    part train_2025 60 $train --model 2025 $large
    part train_2026 60 $train --model 2026 $large
}
exit $failed
