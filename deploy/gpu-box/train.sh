#!/usr/bin/env bash
# One machine with several NVIDIA GPUs: look whether it can train on all of them, then run `dvc repro`, one worker a GPU.
#
#     deploy/gpu-box/train.sh evaluate@cnn
#
# No cluster is needed: cluster.address: local and cluster.workers: auto, the defaults, start a Ray of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."

die() { printf 'ERROR: %s\n' "$1" >&2; exit 3; }

[ -x .venv/bin/dvc ] || die "$PWD/.venv has no dvc; run make setup first"
export PATH=$PWD/.venv/bin:$PATH
command -v nvidia-smi >/dev/null || die "nvidia-smi is not there; install NVIDIA's driver (Debian: apt-get install nvidia-driver)"
driver=$(nvidia-smi --query-gpu=name,memory.total --format=csv,noheader) || die "the driver does not answer (above); reboot, or mend it"
have=$(wc -l <<<"$driver")
seen=$(python -c 'import torch; print(torch.cuda.device_count())')
[ "$seen" = "$have" ] || die "the driver has $have GPUs, torch sees $seen: CUDA_VISIBLE_DEVICES hides some (now '${CUDA_VISIBLE_DEVICES-}'), or the \
driver is too old for $(python -c 'import torch; print(torch.__version__, "with CUDA", torch.version.cuda)'); torch's page says which it needs"
# NCCL passes data between the GPUs of a machine through it, where they have no NVLink.
shared=$(df -Pm /dev/shm | awk 'NR == 2 { print $4 }')
[ "$shared" -ge $((have * 64)) ] || die "/dev/shm has $shared MB free, $have workers want $((have * 64)): mount -o remount,size=8G /dev/shm \
(in a container: --shm-size 8g)"
printf '%s\n' "$driver"
echo "$have workers, one a GPU"
exec dvc repro "$@"
