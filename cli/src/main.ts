#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
/** The command `detour`. */
import { processConsole } from './console.js';
import { runCli } from './run-cli.js';

const interrupted = new AbortController();
process.once('SIGINT', () => interrupted.abort(new Error('interrupted')));
process.once('SIGTERM', () => interrupted.abort(new Error('interrupted')));
process.exitCode = await runCli(process.argv.slice(2), processConsole(interrupted.signal));
