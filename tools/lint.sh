#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What can be checked without running anything: format, lint, types of the tests, arrows between packages, generated code up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
step() { printf '\033[2m[lint]\033[0m %s\n' "$1"; }
step 'format and lint'
pnpm exec biome check --error-on-warnings . >build/biome.log 2>&1 || { tail -60 build/biome.log; exit 1; }
step 'types of the tests'
pnpm exec tsc -p tsconfig.test.json
step 'arrows between packages'
node tools/check-arrows.mjs
step 'generated code is what its sources make'
before=$(git ls-files -s -m -- packages/*/src/gen packages/intent/gen; cat $(git ls-files packages/contracts/src/gen packages/intent/gen) | sha256sum)
tools/generate.sh
after=$(git ls-files -s -m -- packages/*/src/gen packages/intent/gen; cat $(git ls-files packages/contracts/src/gen packages/intent/gen) | sha256sum)
[ "$before" = "$after" ] || { echo "generated code is not what its sources make: run 'make generate' and commit"; git diff --stat -- packages/*/src/gen packages/intent/gen; exit 1; }
