#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what Detour needs on a bare Debian 12 machine, and only what is missing: Debian packages, Node where it is too old, pnpm, the workspace.
# Everything that is not a Debian package goes below .tools/ of the checkout. Run as root; running it again changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

NODE_MIN=20.20.0
NODE_PIN=20.20.2
PNPM_PIN=10.34.9
PACKAGES=(clang llvm libbpf-dev libbpf1 linux-libc-dev libc6-dev bpftool iproute2 nftables conntrack ethtool util-linux procps kmod ca-certificates
  redis-server nats-server bird2 frr openvswitch-switch prometheus-node-exporter libfaketime tcpdump tshark python3-scapy curl make git)

say() { printf '\033[2m[setup]\033[0m %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "must run as root: it installs packages, and the lab makes network namespaces (try: sudo make demo)"
command -v apt-get >/dev/null || fail "apt-get is not here: this machine is no Debian; install by hand: ${PACKAGES[*]}"

missing=()
for package in "${PACKAGES[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  # The daemons among them (NATS, Redis, FRR, BIRD) must not start by themselves: Detour starts its own.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >"$log" 2>&1 || { tail -20 "$log" >&2; fail "apt-get update failed: are Debian's packages reachable?"; }
  apt-get install -y -q --no-install-recommends "${missing[@]}" >>"$log" 2>&1 || { tail -20 "$log" >&2; fail "apt-get install failed"; }
  rm -f "$log"
fi

mkdir -p .tools/bin
export PATH="$PWD/.tools/bin:$PATH"
new_enough() {
  command -v node >/dev/null || return 1
  [ "$(printf '%s\n%s\n' "$NODE_MIN" "$(node --version | tr -d v)" | sort -V | head -1)" = "$NODE_MIN" ]
}
need_npm() {
  command -v npm >/dev/null && return
  say "installing npm from Debian"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends npm >/dev/null
}
if ! new_enough; then
  need_npm
  say "installing Node $NODE_PIN below .tools/ (this machine has $(node --version 2>/dev/null || echo none), Detour needs $NODE_MIN)"
  case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) fail "no Node binary for $(uname -m): install Node $NODE_MIN or newer by hand" ;; esac
  npm install --silent --no-audit --no-fund --prefix .tools "node-linux-$arch@$NODE_PIN" >/dev/null
  ln -sf "../node_modules/node-linux-$arch/bin/node" .tools/bin/node
  new_enough || fail "Node in .tools/bin does not run"
fi
if [ "$(pnpm --version 2>/dev/null)" != "$PNPM_PIN" ]; then
  need_npm
  say "installing pnpm $PNPM_PIN below .tools/"
  npm install --silent --no-audit --no-fund --prefix .tools "pnpm@$PNPM_PIN" >/dev/null
  ln -sf ../node_modules/pnpm/bin/pnpm.cjs .tools/bin/pnpm
fi
stamp=node_modules/.detour-lock
if ! cmp -s pnpm-lock.yaml "$stamp"; then
  say "installing the workspace's npm packages"
  pnpm install --frozen-lockfile --silent
  cp pnpm-lock.yaml "$stamp"
fi
