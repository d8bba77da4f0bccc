#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds every image of deploy/Dockerfile under the names of docker-compose.yml, and prints their sizes.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tools/docker/engine.sh

VERSION=${DETOUR_VERSION:-dev}
revision=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The host's network: a build fetches Debian and npm packages, and a bridge of the engine has no way out on every machine.
build() { # name, arguments
  local name=$1; shift
  local from=$SECONDS
  nice docker build --network host -f deploy/Dockerfile -t "detour/$name:$VERSION" --build-arg "REVISION=$revision" "$@" . >"$log" 2>&1 || { tail -30 "$log" >&2; die "image $name was not built: the log's end is above"; }
  note "detour/$name:$VERSION $(docker image inspect --format '{{.Size}}' "detour/$name:$VERSION" | awk '{ printf "%d MB", $1 / 1e6 }'), in $((SECONDS - from)) s"
}
for service in classifier path-selector stats-collector tunnel-gw bfd cli; do build "$service" --build-arg "SERVICE=$service"; done
build netns --target netns
build lab --target lab
build lab-firewall --target firewall
