#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sees to it that the images that deploy/Dockerfile and docker-compose.yml begin with are there. PULL=1: pulled, where the registry can be reached.
# Otherwise, and where it cannot, each is made from Debian's packages and the Node binary of npm's `node` packages, under the same name and with the
# label org.detour.stand-in. Says which images are stand-ins, and which cannot be made and so are not exercised.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tools/docker/engine.sh

PULL=${PULL:-0}
SUITE=bookworm
NPM_PIN=10.8.2 # what Node 20 comes with
node_image=$(sed -n 's/^ARG NODE_IMAGE=//p' deploy/Dockerfile)
debian_image=$(sed -n 's/^ARG DEBIAN_IMAGE=//p' deploy/Dockerfile)
nats_image=$(sed -n 's/^    image: \(nats:.*\)$/\1/p' docker-compose.yml)
redis_image=$(sed -n 's/^    image: \(redis:.*\)$/\1/p' docker-compose.yml)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

has() { docker image inspect "$1" >/dev/null 2>&1; }
# After one failure no registry is asked again.
pulled() {
  [ "$PULL" = 1 ] || return 1
  timeout 120 docker pull -q "$1" >/dev/null 2>&1 || { PULL=0; note 'no registry can be reached: base images are made here'; return 1; }
}
made() { note "$1: made here from Debian's packages, it stands in for the public image"; }
# The Debian archive that this machine's own apt uses.
archive() { apt-get indextargets 'Created-By: Packages' --format '$(REPO_URI) $(CODENAME) $(ORIGIN)' | sed -n "s/ $SUITE Debian\$//p" | head -1; }

debian() {
  local mirror root=$work/debian; mirror=$(archive)
  [ -n "$mirror" ] || die "no Debian archive for $SUITE among this machine's apt sources: add one, or run with PULL=1"
  debootstrap --variant=minbase "$SUITE" "$root" "$mirror" >"$work/debootstrap.log" 2>&1 || { tail -5 "$work/debootstrap.log" >&2; die "debootstrap failed"; }
  printf 'deb %s %s main\ndeb %s %s-updates main\n' "$mirror" "$SUITE" "$mirror" "$SUITE" >"$root/etc/apt/sources.list"
  # As the public slim image is: no documentation, no lists, nothing started by a package.
  printf 'path-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\npath-exclude /usr/share/locale/*\n' >"$root/etc/dpkg/dpkg.cfg.d/slim"
  printf 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n' >"$root/etc/apt/apt.conf.d/docker-clean"
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" && chmod +x "$root/usr/sbin/policy-rc.d"
  # A machine behind a proxy of its own trusts that proxy's certificate; so must what is built here.
  mkdir -p "$root/etc/ssl/certs" && cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  rm -rf "$root"/usr/share/{doc,man,locale}/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/log/*.log
  tar -C "$root" -c . | docker import -c 'CMD ["bash"]' -c 'LABEL org.detour.stand-in=true' - "$debian_image" >/dev/null
  rm -rf "$root"
}

# Standard input: a Dockerfile whose context is $work/context.
build() { docker build -q --network host --label org.detour.stand-in=true -t "$1" -f - "$work/context" >"$work/build.log" 2>&1 || { tail -20 "$work/build.log" >&2; die "$1 could not be made"; }; rm -rf "$work/context"; }

node() {
  local version=${node_image#node:} arch=x64; version=${version%%-*}
  [ "$(uname -m)" = aarch64 ] && arch=arm64
  mkdir -p "$work/context"
  npm install --silent --no-audit --no-fund --no-save --prefix "$work/npm" "node-linux-$arch@$version" "npm@$NPM_PIN" >/dev/null || die "npm cannot give node-linux-$arch@$version and npm@$NPM_PIN"
  mkdir -p "$work/context/local/bin" "$work/context/local/lib/node_modules"
  cp "$work/npm/node_modules/node-linux-$arch/bin/node" "$work/context/local/bin/"
  cp -r "$work/npm/node_modules/npm" "$work/context/local/lib/node_modules/"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$work/context/local/bin/npm"
  rm -rf "$work/npm"
  build "$node_image" <<END
FROM $debian_image
COPY local /usr/local
RUN groupadd --gid 1000 node && useradd --uid 1000 --gid node --shell /bin/bash --create-home node
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
CMD ["node"]
END
}

nats() {
  mkdir -p "$work/context"
  build "$nats_image" <<END
FROM $debian_image
RUN apt-get update -q && apt-get install -y -q --no-install-recommends nats-server && rm -rf /var/lib/apt/lists/* && ln -s /usr/sbin/nats-server /nats-server
EXPOSE 4222 8222 6222
ENTRYPOINT ["/nats-server"]
END
}

redis() {
  mkdir -p "$work/context"
  build "$redis_image" <<END
FROM $debian_image
RUN groupadd -r -g 999 redis && useradd -r -g redis -u 999 redis && apt-get update -q && apt-get install -y -q --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/* && mkdir /data && chown redis:redis /data
VOLUME /data
WORKDIR /data
EXPOSE 6379
CMD ["redis-server"]
END
}

for image in "$debian_image" "$node_image" "$nats_image" "$redis_image"; do
  has "$image" && continue
  pulled "$image" && continue
  case $image in "$debian_image") debian ;; "$node_image") node ;; "$nats_image") nats ;; "$redis_image") redis ;; esac
  made "$image"
done
for image in $(sed -n 's/^    image: \(otel.*\|jaeger.*\)$/\1/p' docker-compose.yml); do
  has "$image" || pulled "$image" || note "$image: not here and not to be had without a registry: not exercised"
done
