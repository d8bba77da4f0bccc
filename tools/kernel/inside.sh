#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The test machine's second step, with all files in place: runs the tests and turns the machine off. Its argument is the checkout.
checkout=$1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
cd "$checkout" || exit 1
results=build/kernel/results
. "$results/environment"
export PATH CI=1 NO_COLOR=1 HOME=/root
for lookup in $LOOKUP; do
  begin=$SECONDS
  # shellcheck disable=SC2086
  DETOUR_VRF_LOOKUP=$lookup node node_modules/vitest/vitest.mjs run --config tools/kernel/vitest.config.ts $ONLY \
    --reporter=default --reporter=json --outputFile.json="$results/$lookup.json"
  echo "[inside] kernel $(uname -r), VRFs looked up by $lookup: $((SECONDS - begin)) s"
done
sync
echo o >/proc/sysrq-trigger
sleep 60
