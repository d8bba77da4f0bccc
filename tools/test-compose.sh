#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tests the stack in containers: Docker from Debian where there is none (stopped again if it was started here), base images made from Debian's packages
# (PULL=1: from a registry), all images built, then the tests. Leaves results in build/results; the last line counts them unless COUNT=0.
set -uo pipefail
cd "$(dirname "$0")/.."
. tools/docker/engine.sh
mkdir -p build/results
rm -f build/results/compose.json
status=0
began=$SECONDS
(VERB=test-compose && start_engine && PULL=${PULL:-0} tools/docker/base-images.sh && tools/docker/images.sh) || status=1
if [ $status = 0 ]; then
  note "engine and images were ready after $((SECONDS - began)) s"
  pnpm exec vitest run --project compose --reporter=dot --reporter=json --outputFile.json=build/results/compose.json || status=1
  note "all of it took $((SECONDS - began)) s"
else
  # A run that could not begin is a failed one, for who counts.
  printf '{"testResults":[{"name":"test-compose","status":"failed","message":"Docker or the images: see above","assertionResults":[]}]}' >build/results/compose.json
fi
(stop_engine) || status=1
[ "${COUNT:-1}" = 0 ] || node tools/count-tests.mjs build/results compose || status=1
exit $status
