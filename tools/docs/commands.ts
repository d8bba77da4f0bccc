// SPDX-License-Identifier: Apache-2.0
// Commands of documents that are too long to run beside the documents' own tests: which test runs each, and by what words it can be seen there.

export interface RunElsewhere {
  /** The command, as the document has it, without its comment. */
  readonly command: string;
  readonly test: string;
  /** Stands in that file. */
  readonly evidence: string;
}

export const RUN_ELSEWHERE: readonly RunElsewhere[] = [
  { command: 'make demo', test: 'tests/e2e/src/demo.test.ts', evidence: 'demo/main.js' },
  { command: 'make demo ACT=edge', test: 'tests/e2e/src/demo.test.ts', evidence: "story: 'edge'" },
  { command: 'make demo ACT=failover', test: 'tests/e2e/src/demo.test.ts', evidence: "story: 'failover'" },
  { command: 'make demo KEEP=1', test: 'tests/e2e/src/demo.test.ts', evidence: '--keep' },
  {
    command: 'make compose-demo',
    test: 'tests/e2e/src/compose/stack.test.ts',
    evidence: "commandsOf('Start')",
  },
  { command: 'make test', test: '.ci/run', evidence: 'make test' },
  {
    command: 'make up INTENT=intent.yaml GATEWAY=edge1',
    test: 'tests/e2e/src/up-down.test.ts',
    evidence: "make('up', `INTENT=",
  },
  { command: 'make down', test: 'tests/e2e/src/up-down.test.ts', evidence: "make('down')" },
];

/** Documents whose commands and configuration a test takes out of the page and runs, every line. */
export const RUN_WHOLE: Readonly<Record<string, string>> = {
  'docs/attach-a-node.md': 'tests/e2e/src/up-down.test.ts',
};

/** Pages with intents, and the test that takes every one out of the page and applies it to a gateway with real nodes behind it. */
export const APPLIED: Readonly<Record<string, string>> = {
  'docs/attach-a-node.md': 'tests/e2e/src/pages/tunnels.test.ts',
  'docs/attach-a-pair.md': 'tests/e2e/src/pages/arms.test.ts',
  'docs/attach-a-router.md': 'tests/e2e/src/pages/arms.test.ts',
  'docs/route-over-tunnels.md': 'tests/e2e/src/acceptance/tun-routes.test.ts',
  'README.md': 'tests/e2e/src/up-down.test.ts',
};
