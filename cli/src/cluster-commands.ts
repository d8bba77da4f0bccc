// SPDX-License-Identifier: Apache-2.0
/** Commands about the running cluster: get, trace, drain, undrain, session, status. */
import { Fault } from '@detour/core';
import { nearestWord, type Revision } from '@detour/intent';
import { authorOf, type Cluster, openCluster } from './cluster.js';
import type { Console } from './console.js';
import { EXIT } from './exit-codes.js';
import { loadHead, loadRevision } from './history.js';
import { setDrain, setSessionAdminDown } from './operate.js';
import { type Format, render } from './render.js';
import type { Filters } from './resource.js';
import { RESOURCES } from './resources.js';
import { statusOf, viewStatus } from './status.js';
import { type TraceOptions, tracePacket, traceRequestOf } from './trace.js';

async function loadInForce(cluster: Cluster): Promise<Revision | null> {
  const head = await loadHead(cluster);
  return head === null ? null : loadRevision(cluster, head);
}

/** `detour get RESOURCE`. Rows of those that answered are shown; who did not is named, and the exit code says so. */
export async function get(
  console: Console,
  name: string,
  options: { filters: Filters; output: Format },
): Promise<number> {
  const resource = RESOURCES[name];
  if (resource === undefined) {
    const names = Object.keys(RESOURCES);
    const nearest = nearestWord(name, names);
    throw new Fault(
      'invalid',
      `there is no "${name}" to get: ${nearest === undefined ? `give one of ${names.join(', ')}` : `did you mean ${nearest}?`}`,
    );
  }
  const given = Object.keys(options.filters) as (keyof Filters)[];
  const wrong = given.find((filter) => !resource.filters.includes(filter));
  if (wrong !== undefined) {
    const known = resource.filters.map((filter) => `--${filter}`).join(', ');
    throw new Fault(
      'invalid',
      `get ${name} takes no --${wrong}: ${known === '' ? 'it takes no filter' : `it takes ${known}`}`,
    );
  }
  await using cluster = await openCluster(console);
  const {
    view,
    missing,
    notes = [],
  } = await resource.load({
    cluster,
    filters: options.filters,
    current: await loadInForce(cluster),
  });
  console.out(render(view, options.output));
  for (const sentence of [...notes, ...missing]) console.err(`detour: ${sentence}\n`);
  return missing.length === 0 ? EXIT.ok : EXIT.unavailable;
}

/** `detour trace`. */
export async function trace(console: Console, options: TraceOptions & { output: Format }): Promise<number> {
  traceRequestOf(options); // wrong flags are told before anything is connected to
  await using cluster = await openCluster(console);
  console.out(render(await tracePacket(cluster, options), options.output));
  return EXIT.ok;
}

/** `detour drain NODE` and `detour undrain NODE`. */
export async function drain(
  console: Console,
  node: string,
  options: { draining: boolean; output: Format },
): Promise<number> {
  await using cluster = await openCluster(console);
  const changed = await setDrain(cluster, node, { draining: options.draining, by: authorOf(console.env) });
  const state = options.draining
    ? 'is drained: it gets no new flows, old ones finish'
    : 'gets new flows again';
  const text = changed
    ? `${node} ${state}\n`
    : `${node} was ${options.draining ? 'drained' : 'not drained'} already\n`;
  console.out(render({ data: { node, draining: options.draining, changed }, table: text }, options.output));
  return EXIT.ok;
}

/** `detour session ID admin-down|up`. */
export async function session(
  console: Console,
  id: string,
  options: { adminDown: boolean; gateway?: string; output: Format },
): Promise<number> {
  const { adminDown } = options;
  await using cluster = await openCluster(console);
  const want = { adminDown, ...(options.gateway === undefined ? {} : { gateway: options.gateway }) };
  const gateway = await setSessionAdminDown(cluster, id, want);
  const text = `session ${id} on ${gateway} is ${adminDown ? 'admin-down' : 'no longer admin-down'}\n`;
  console.out(render({ data: { id, gateway, adminDown }, table: text }, options.output));
  return EXIT.ok;
}

/** `detour status`. */
export async function status(console: Console, options: { output: Format }): Promise<number> {
  await using cluster = await openCluster(console);
  const report = await statusOf(cluster, await loadInForce(cluster));
  console.out(render(viewStatus(report), options.output));
  return report.healthy ? EXIT.ok : EXIT.degraded;
}
