#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every test: what needs no lab two files at a time, then the end-to-end labs one after the other, so that timers are not starved, then the stack in containers.
# The last line counts them. ONLY=pattern runs the files whose path contains it.
set -uo pipefail
cd "$(dirname "$0")/.."
rm -rf build/results && mkdir -p build/results
status=0
[ -n "${ONLY:-}" ] || tools/lint.sh || { echo "lint failed: see above"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
run() { # name, vitest arguments
  local name=$1; shift
  printf '\033[2m[test]\033[0m %s\n' "$name"
  pnpm exec vitest run "$@" ${ONLY:+"$ONLY"} --reporter=dot --reporter=json --outputFile.json="build/results/$name.json" --passWithNoTests || status=1
}
run unit --project unit
run datapath --project datapath
run lab --project lab
case ${ONLY:-compose} in *compose*) COUNT=0 tools/test-compose.sh || status=1 ;; esac
node tools/count-tests.mjs build/results || status=1
exit $status
