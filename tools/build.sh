#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles the TypeScript projects and the BPF objects; says so when it takes a while.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
printf '\033[2m[build]\033[0m TypeScript and datapath\n'
make -s -C datapath
pnpm exec tsc -b
