#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A service node: routes what comes out of its VXLAN tunnel back into it, through nftables with connection tracking. BIRD answers BFD.
# In: UNDERLAY (its own address), GATEWAY (the gateway's underlay address), VNI, INNER and GATEWAY_INNER (the tunnel's inner addresses), MANAGEMENT.
set -euo pipefail
device_of() { ip -o -4 address show | awk -v wanted="$1" '{ split($4, at, "/"); if (at[1] == wanted) print $2 }'; }
underlay=$(device_of "$UNDERLAY")
[ -n "$underlay" ] || { echo "no device has $UNDERLAY (UNDERLAY)" >&2; exit 1; }
ethtool -K "$underlay" tx off >/dev/null # an XDP program sees what left here: whole packets, checksums in place
ip link add name vxlan0 mtu 1500 type vxlan id "$VNI" local "$UNDERLAY" remote "$GATEWAY" dstport 4789 noudpcsum nolearning
ethtool -K vxlan0 tx off >/dev/null
ip address add "$INNER/30" dev vxlan0
ip link set dev vxlan0 up
ip route replace default via "$GATEWAY_INNER" dev vxlan0
nft -f /opt/detour/lab/firewall.nft
mkdir -p /run/bird
cat >/run/bird/bird.conf <<END
log stderr all;
router id $INNER;
protocol device { }
protocol bfd {
  interface "vxlan0" { min rx interval 300 ms; min tx interval 300 ms; multiplier 5; idle tx interval 1 s; };
  neighbor $GATEWAY_INNER dev "vxlan0" local $INNER;
}
END
prometheus-node-exporter --web.listen-address="$MANAGEMENT:9100" --collector.disable-defaults --collector.conntrack --collector.cpu --collector.loadavg --collector.meminfo --collector.netdev --collector.stat &
exec bird -f -c /run/bird/bird.conf -s /run/bird/bird.ctl
