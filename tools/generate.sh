#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes all generated code again: messages from proto/, the ABI from datapath/include/abi.h, the JSON Schema of the intent.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"
buf lint
buf generate
node tools/gen-abi.mjs >/dev/null
pnpm exec tsc -b packages/intent
[ ! -f packages/intent/dist/generate.js ] || node packages/intent/dist/generate.js >/dev/null
