#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs tests on Debian 12's own kernel, in an emulated machine without KVM: the loader, the datapath by table id and by rules, tunnel-gw.
# The machine sees this one's files, read-only below a layer in memory, and writes nothing but its results. KERNEL=linux-image-… takes
# another of Debian's kernels, ONLY=pattern some test files, LOOKUP=table or LOOKUP=rules one way of looking VRFs up.
set -euo pipefail
cd "$(dirname "$0")/../.."
checkout=$PWD
work=$checkout/build/kernel
image=$work/image
MODULES=(virtio_pci 9pnet_virtio 9p overlay)
DEADLINE=${DEADLINE:-1200}

say() { printf '\033[2m[kernel]\033[0m %s\n' "$*"; }
fail() { printf 'test-kernel: %s\n' "$*" >&2; echo '0 passed, 1 failed, 0 skipped'; exit 1; }

missing=()
for package in qemu-system-x86 cpio kmod; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${missing[*]}"
  apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null ||
    fail "${missing[*]} cannot be installed: are Debian's packages reachable?"
fi

package=${KERNEL:-$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-6\.1\.[^ ]*\)$/\1/p')}
[ -n "$package" ] || fail "Debian 12's linux-image-amd64 is not known here: name a kernel, KERNEL=linux-image-6.1.0-…-amd64"
version=${package#linux-image-}
if [ ! -e "$image/boot/vmlinuz-$version" ]; then
  say "fetching $package"
  rm -rf "$work" && mkdir -p "$work/debs" "$image"
  (cd "$work/debs" && apt-get download -q "$package" busybox-static >/dev/null 2>&1) || fail "$package cannot be downloaded"
  for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$image"; done
  depmod -b "$image" "$version"
fi

# What the kernel begins with: what it needs to see the files of this machine, and nothing else.
start=$work/start
rm -rf "$start" && mkdir -p "$start/bin" "$start/modules"
cp "$image/bin/busybox" "$start/bin/"
cp tools/kernel/init "$start/init"
modprobe -d "$image" -S "$version" --show-depends -a "${MODULES[@]}" | awk '!seen[$2]++ { print $2 }' | while read -r file; do
  cp "$file" "$start/modules/" && basename "$file" >>"$start/modules/order"
done
(cd "$start" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/start.gz"

say 'compiling the tests'
for project in tests/datapath services/tunnel-gw packages/bpf; do
  nice -n 10 pnpm exec tsc -p "$project/tsconfig.kernel.json"
done
rm -rf "$work/results" && mkdir -p "$work/results"
printf 'PATH=%q\nONLY=%q\nLOOKUP=%q\n' "$PATH" "${ONLY:-}" "${LOOKUP:-table rules}" >"$work/results/environment"

say "running them on $version (log: build/kernel/console.log)"
share() { printf '%s' "-fsdev local,id=$1,path=$2,security_model=none,$3 -device virtio-9p-pci,fsdev=$1,mount_tag=$1"; }
# shellcheck disable=SC2046
timeout "$DEADLINE" nice -n 10 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3G -nodefaults -nographic -no-reboot \
  -serial mon:stdio -kernel "$image/boot/vmlinuz-$version" -initrd "$work/start.gz" \
  -append "console=ttyS0 quiet panic=-1 no_timer_check detour.checkout=$checkout" \
  $(share host / readonly=on,multidevs=remap) $(share results "$work/results" writeout=immediate) \
  </dev/null >"$work/console.log" 2>&1 || say "the machine did not end by itself within $DEADLINE s"
grep -ao '\[inside\].*' "$work/console.log" || { tail -20 "$work/console.log"; fail 'the machine did not come up'; }
status=0
node tools/count-tests.mjs "$work/results" || status=1
exit $status
