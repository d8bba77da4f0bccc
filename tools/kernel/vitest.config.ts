// SPDX-License-Identifier: Apache-2.0
// Tests as compiled JavaScript, in one process: an emulated machine takes minutes for what Vite does with sources.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: [
      'tests/datapath/dist/*.test.js',
      'services/tunnel-gw/dist/vrf-rules.test.js',
      'packages/bpf/dist/features.test.js',
    ],
    exclude: [],
    pool: 'forks',
    isolate: false,
    fileParallelism: false,
    retry: 1,
    testTimeout: 240_000,
    hookTimeout: 240_000,
    server: { deps: { external: [/\/dist\//] } },
  },
});
