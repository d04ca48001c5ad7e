#!/bin/bash
# Deals a file of ratings to blocks and trains on them with two processes on this machine:
#
#     bash examples/complete_distributed.sh ratings.csv [options of dmf-fast complete]
#
# On several machines run the `torchrun` command on each, with --nnodes and --rdzv-endpoint as in docs/distributed.md.
set -euo pipefail

ratings="$1"
shift
dmf-fast prepare "$ratings" --out "${ratings%.*}.blocks" --blocks 64 --overwrite

# Without it, processes that torchrun restarts may look for others at addresses that are gone.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
torchrun --nproc-per-node 2 --max-restarts 3 -m dmf_fast.cli complete "${ratings%.*}.blocks" \
    --out "${ratings%.*}.model" --resume "$@"
