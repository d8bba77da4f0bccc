// SPDX-License-Identifier: Apache-2.0
// Projects: `unit` has what stands beside its source, on real servers where it needs them; `datapath` runs the program packet by packet; `lab` has
// what sends packets through network namespaces, one file after the other; `compose` has the stack in
// containers, and what breaks NATS and Redis once more, in containers.
import { defineConfig } from 'vitest/config';

/** Workspace packages resolve to their sources, so that a test never runs a stale build. */
const conditions = ['detour-source', 'node', 'import', 'default'];
const shared = {
  resolve: { conditions },
  ssr: { resolve: { conditions } },
};
/** Stand beside their source, but measure time against real peers: they run alone, with the labs. */
const timed = ['services/bfd/src/{many-sessions,peer-bird,peer-frr,echo,devices,measure,service}.test.ts'];
/** One packet after the other through the program, with no clock in it: no second try. */
const datapath = 'tests/datapath/src/**/*.test.ts';
/** Need Docker and the images: `make test-compose`. */
const containers = 'tests/e2e/src/compose/**/*.test.ts';
const limits = {
  testTimeout: 30_000,
  hookTimeout: 60_000,
  expect: { poll: { timeout: 15_000 } }, // on a busy machine a process that is started takes a second
  exclude: ['**/node_modules/**', '**/dist/**', 'build/**'],
};

export default defineConfig({
  ...shared,
  test: {
    projects: [
      {
        ...shared,
        test: {
          ...limits,
          name: 'unit',
          include: ['{packages,services,cli,bench}/**/src/**/*.test.ts', 'tools/**/*.test.ts'],
          exclude: [...limits.exclude, ...timed],
          maxWorkers: 2,
        },
      },
      {
        ...shared,
        test: { ...limits, name: 'datapath', include: [datapath], fileParallelism: false },
      },
      {
        ...shared,
        test: {
          ...limits,
          name: 'lab',
          include: ['tests/**/src/**/*.test.ts', ...timed],
          exclude: [...limits.exclude, datapath, containers],
          // Real timers on shared cores: one more try tells a busy moment from a fault. A fault fails twice.
          retry: 1,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        ...shared,
        test: {
          ...limits,
          name: 'compose',
          include: [containers, 'packages/*/src/broken-*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 400_000, // a build of the images that was not made before
          fileParallelism: false,
        },
      },
    ],
  },
});
