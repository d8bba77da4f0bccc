#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
/** The command `detour`. */
import { silentLog } from '@detour/core';
import { startTelemetry } from '@detour/telemetry';
import { processConsole } from './console.js';
import { runCli } from './run-cli.js';

const interrupted = new AbortController();
process.once('SIGINT', () => interrupted.abort(new Error('interrupted')));
process.once('SIGTERM', () => interrupted.abort(new Error('interrupted')));

const otlp = process.env.DETOUR_OTLP ?? '';
const spec = {
  service: 'cli',
  instance: String(process.pid),
  gateway: '',
  otlp,
  traceRatio: 1,
  log: silentLog,
};
const telemetry = otlp === '' ? undefined : startTelemetry(spec);
process.exitCode = await runCli(process.argv.slice(2), processConsole(interrupted.signal));
await telemetry?.[Symbol.asyncDispose]();
