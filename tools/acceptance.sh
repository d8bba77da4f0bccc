#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the tests whose titles begin with the id of a statement, and writes docs/acceptance.md and build/acceptance.json.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
pnpm exec vitest run --project lab --testNamePattern '\b(VTI|LB|VRFD|VRFC|TUN|CPM|PSEL|LAYR|SRC)-[0-9]+ ' --reporter=dot --reporter=json --outputFile.json=build/acceptance-run.json
status=$?
node tools/acceptance.mjs build/acceptance-run.json || exit 1
exit $status
