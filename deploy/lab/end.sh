#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One end of the lab's traffic. In: DEVICE_ADDRESS (what the engine gave), ADDRESS (its own, which the engine knows nothing of, so that no rule of the
# engine about its addresses meets it), GATEWAY (its way out). Then runs its arguments.
set -euo pipefail
device=$(ip -o -4 address show | awk -v wanted="$DEVICE_ADDRESS" '{ split($4, at, "/"); if (at[1] == wanted) print $2 }')
[ -n "$device" ] || { echo "no device has $DEVICE_ADDRESS (DEVICE_ADDRESS)" >&2; exit 1; }
ethtool -K "$device" tx off >/dev/null # an XDP program sees what left here: whole packets, checksums in place
ip address add "$ADDRESS/24" dev "$device"
ip route replace default via "$GATEWAY" dev "$device" src "$ADDRESS"
exec "$@"
