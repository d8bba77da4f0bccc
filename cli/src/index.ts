// SPDX-License-Identifier: Apache-2.0
/** The command line of Detour, for tests and for programs that embed it. */
export type { Console } from './console.js';
export { EXIT } from './exit-codes.js';
export { EXIT_MEANINGS } from './program.js';
export { runCli } from './run-cli.js';
