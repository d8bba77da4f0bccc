#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Holds a network namespace. Engines number a container's devices as they please, anew at every start: each argument NAME=ADDRESS gives the device
# with that address a name that an intent can rely on. There is no default route: what the gateway cannot route stays here.
set -euo pipefail
rm -f /run/ready
for pair in "$@"; do
  name=${pair%%=*} address=${pair#*=}
  device=$(ip -o -4 address show | awk -v wanted="$address" '{ split($4, at, "/"); if (at[1] == wanted) print $2 }')
  if [ -z "$device" ]; then
    echo "no device has $address, which should be $name: is the container in the network that this address is from? It has: $(ip -o -4 address show | awk '{ printf "%s %s, ", $2, $4 }')" >&2
    exit 1
  fi
  [ "$device" = "$name" ] || { ip link set dev "$device" down && ip link set dev "$device" name "$name" && ip link set dev "$name" up; }
done
ip route del default 2>/dev/null || :
echo "holds: $(ip -o -4 address show | awk '{ printf "%s %s, ", $2, $4 }')"
touch /run/ready
trap 'exit 0' TERM INT
sleep infinity & wait $!
