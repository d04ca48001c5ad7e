#!/bin/sh
# Builds, tests, sanitizes, measures and profiles the CUDA backend on this machine's GPU, without network:
#
#   bench/gpu_check.sh [OUTPUT_FOLDER] [PART...]
#
# Parts: build, tests, sanitizer, bench, profile; all of them by default, in less than 8 minutes. A part that
# fails does not stop those after it, except build. Leaves DATE-GPU.txt and DATE-GPU.json in OUTPUT_FOLDER
# (bench/results by default), in place of those of the same day; the exit status is 1 where a part failed.
#
# Needs python3 with torch for CUDA and the packages of pyproject.toml, nvcc, cmake and ninja; compute-sanitizer
# and ncu for their parts. A copy without git names its commit in DMF_FAST_COMMIT.
set -u
folder=${1:-$(dirname "$0")/results}
[ $# -gt 0 ] && shift
parts=${*:-build tests sanitizer bench profile}
for part in $parts; do
  case $part in build | tests | sanitizer | bench | profile) ;; *)
    echo "gpu_check.sh: there is no part '$part'; choose of build, tests, sanitizer, bench and profile" >&2
    exit 2 ;;
  esac
done
mkdir -p "$folder" && folder=$(cd "$folder" && pwd) && cd "$(dirname "$0")/.." || exit 2
export PATH="$PATH:${CUDA_HOME:-/usr/local/cuda}/bin"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT

python3 - >"$work/gpu" <<'END' || exit 1
import sys, torch
from bench.gpu_limits import short_name
if not torch.cuda.is_available():
    sys.exit(f"gpu_check.sh: torch {torch.__version__} sees no CUDA device on this machine")
print(short_name(torch.cuda.get_device_name()), "%d%d" % torch.cuda.get_device_capability())
END
read -r gpu architecture <"$work/gpu"
result=$folder/$(date +%F)-$gpu

# limited SECONDS COMMAND...
limited() {
  timeout --kill-after=5 "$@"
  status=$?
  [ $status -ne 124 ] && [ $status -ne 137 ] || echo "stopped after $1 seconds"
  return $status
}

# needs PROGRAM
needs() {
  command -v "$1" >/dev/null || { echo "$1 is not on the path: this part needs it" && return 1; }
}

# In place, so that nothing outside the repository is written; the metadata name the version.
run_build() {
  nvidia-smi || echo "nvidia-smi does not run here"
  DMF_FAST_CUDA=on DMF_FAST_CUDA_ARCHITECTURES=${DMF_FAST_CUDA_ARCHITECTURES:-$architecture} \
    limited 90 python3 setup.py -q egg_info build_ext --inplace && python3 -m dmf_fast.info
}

run_tests() {
  # Four at a time where pytest-xdist is there: most of a test is the oracle on the CPU.
  workers=$(python3 -c 'import xdist; print("-n 4")' 2>/dev/null)
  # shellcheck disable=SC2086
  limited 120 python3 -m pytest -q -m "cuda and not slow" $workers -p no:cacheprovider \
    --continue-on-collection-errors --junitxml="$work/tests.xml" tests
}

# All three at once. initcheck must see who writes, so it watches torch's kernels as well.
run_sanitizer() {
  needs compute-sanitizer || return 1
  for tool in memcheck racecheck initcheck; do
    watched="--kernel-regex kns=dmf --error-exitcode 99"
    [ $tool != initcheck ] || watched="--print-limit 1000"
    {
      # shellcheck disable=SC2086
      PYTORCH_NO_CUDA_MEMORY_CACHING=1 limited 80 compute-sanitizer --tool $tool $watched --target-processes all \
        --report-api-errors no --show-backtrace no python3 -m bench.gpu_small
      echo "exit status $?"
    } >"$work/$tool.log" 2>&1 &
  done
  wait
  for tool in memcheck racecheck initcheck; do
    echo "-- $tool" && head -n 60 "$work/$tool.log"
  done
  python3 -m bench.sanitizer_log "$work/memcheck.log" "$work/racecheck.log" "$work/initcheck.log"
}

run_bench() {
  limited 130 python3 -m bench.gpu_report --output "$work/report.json"
}

run_profile() {
  needs ncu || return 1
  metrics=gpu__time_duration.sum,dram__bytes.sum,lts__t_bytes.sum,lts__t_sector_hit_rate.pct
  metrics=$metrics,lts__throughput.avg.pct_of_peak_sustained_elapsed,l1tex__t_sector_hit_rate.pct
  metrics=$metrics,sm__warps_active.avg.pct_of_peak_sustained_active,launch__registers_per_thread
  metrics=$metrics,smsp__issue_active.avg.pct_of_peak_sustained_active
  limited 40 ncu --profile-from-start off --target-processes all --clock-control none --cache-control none \
    --metrics "$metrics" python3 -m bench.gpu_profile
}

check() {
  python3 -c 'from bench.record import origin; print(*origin().values())'
  for part in $parts; do
    echo "==== $part"
    start=$(date +%s)
    "run_$part" && outcome=passed || outcome=failed
    seconds=$(($(date +%s) - start))
    echo "==== $part $outcome in $seconds seconds"
    echo "$part $outcome $seconds" >>"$work/parts"
    [ "$part $outcome" != "build failed" ] || break
  done
}

check 2>&1 | tee "$result.txt"
python3 -m bench.gpu_outcomes "$work" "$result.json" && echo "$result.txt and $result.json"
! grep -q " failed " "$work/parts"
