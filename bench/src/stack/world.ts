// SPDX-License-Identifier: Apache-2.0
// The whole of Detour as processes in the standard lab, with the benchmarks' own ends: flows without number between client and server.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BpfObject, openObject, pinProgram } from '@detour/bpf';
import { bfdSocketAddress } from '@detour/contracts';
import { Fault } from '@detour/core';
import type { IntentDocument } from '@detour/intent';
import type { BfdTiming, Firewall, Lab, Stack } from '@detour/lab';
import { createLab, openFirewall, standardIntent, standardLab, startStack } from '@detour/lab';
import { type Agent, startAgent } from '../agent.js';
import { buildBenchObject } from '../bpf-objects.js';
import { favour } from '../favour.js';
import type { ClientReply, ClientRequest } from './client-protocol.js';
import { ABI_PIN, type StackPlaces, stackPlaces } from './places.js';
import type { WatcherReply, WatcherRequest } from './watcher-protocol.js';

export interface World extends AsyncDisposable {
  readonly lab: Lab;
  readonly stack: Stack;
  readonly client: Agent<ClientRequest, ClientReply>;
  readonly watcher: Agent<WatcherRequest, WatcherReply>;
  firewall(index: 1 | 2): Firewall;
  /** `detour apply --wait`. @throws Fault with what it said. */
  apply(document: IntentDocument): Promise<void>;
  /** Waits until so many nodes may get new flows. */
  nodesUp(count: number): Promise<void>;
}

export interface WorldOptions {
  readonly name: string;
  readonly bfd?: BfdTiming;
  /** fw1 sends the benchmark's flows back by itself, before its kernel sees them: the gateway is what is measured. */
  readonly reflectingNode?: true;
  /** More environment for tunnel-gw. */
  readonly env?: Readonly<Record<string, string>>;
}

const READY_MS = 30_000;
const POLL_MS = 50;

export async function openWorld(options: WorldOptions): Promise<World> {
  const bfd = options.bfd ?? {};
  const ends = openObject(await buildBenchObject('server'));
  const lab = await createLab(standardLab({ bfd }), { name: options.name });
  const open: AsyncDisposable[] = [lab];
  const close = async (): Promise<void> => {
    for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
    ends.close();
  };
  try {
    const places = stackPlaces(lab);
    await placeEnds(lab, ends, places, options.reflectingNode === true);
    await lab.exec('edge1', clientsRoute(places.clientAddress, 'eth1', ABI_PIN.table));
    const stack = await startStack(lab, {
      logLevel: 'warn',
      env: (service) => (service === 'tunnel-gw' ? { ...options.env } : {}),
    });
    open.push(stack);
    for (const id of stack.ids) favour(stack.process(id).pid);
    favour(process.pid);
    const client = await startAgent<ClientRequest, ClientReply>(lab, {
      ns: 'client',
      name: 'bench-client',
      main: 'stack/client-process.js',
      args: ['eth0', places.gatewayMac, places.endsPin],
    });
    const apply = (document: IntentDocument): Promise<void> => applyDocument(lab, stack, document);
    await apply(standardIntent({ firewalls: 1, bfd }));
    const watcher = await startAgent<WatcherRequest, WatcherReply>(lab, {
      ns: 'mgmt',
      name: 'bench-watcher',
      main: 'stack/watcher-process.js',
      args: [`${places.mapsPin}/control`, bfdSocketAddress(places.runDir), 'edge1', stack.natsUrl],
    });
    return {
      lab,
      stack,
      client,
      watcher,
      firewall: (index) => openFirewall(lab, `fw${index}`),
      apply,
      nodesUp: (count) => awaitNodes(stack, count),
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A way for the client's addresses to be found: all of 10.1.0.0/16 is behind its own. */
export function clientsRoute(via: string, device: string, table: string): string[] {
  return ['ip', 'route', 'add', '10.1.0.0/16', 'via', via, 'dev', device, 'table', table];
}

/** The programs at client, server and, if it reflects, fw1. */
export async function placeEnds(
  lab: Lab,
  ends: BpfObject,
  places: StackPlaces,
  reflecting: boolean,
): Promise<void> {
  mkdirSync(places.benchPin, { recursive: true });
  pinProgram(ends.program('bench_serve'), `${places.benchPin}/serve`);
  pinProgram(ends.program('bench_absorb'), `${places.benchPin}/absorb`);
  pinProgram(ends.program('bench_node'), `${places.benchPin}/node`);
  ends.map('ends').pin(places.endsPin);
  const attach = (ns: string, program: string): Promise<unknown> =>
    lab.exec(ns, [
      'ip',
      '-force',
      'link',
      'set',
      'dev',
      'eth0',
      'xdpdrv',
      'pinned',
      `${places.benchPin}/${program}`,
    ]);
  await attach('server', 'serve');
  await attach('client', 'absorb');
  if (reflecting) await attach('fw1', 'node');
}

export async function applyDocument(lab: Lab, stack: Stack, document: IntentDocument): Promise<void> {
  const file = join(lab.dir, 'intent.json');
  writeFileSync(file, JSON.stringify(document));
  const { code, stderr, stdout } = await stack.cli(['apply', '-f', file, '--wait', '--timeout', '30s']);
  if (code !== 0) throw new Fault('internal', `detour apply: exit code ${code}: ${stderr || stdout}`);
}

/** `gateway`: its process in the stack. */
export async function awaitNodes(stack: Stack, count: number, gateway = 'tunnel-gw'): Promise<void> {
  const until = performance.now() + READY_MS;
  for (;;) {
    const metrics = await stack.metrics(gateway);
    const up = [...metrics.matchAll(/^detour_node_up\{[^}]*\} 1$/gm)].length;
    if (up === count) return;
    if (performance.now() > until)
      throw new Fault(
        'timeout',
        `${up} of ${count} nodes up after ${READY_MS} ms: ${metrics.match(/^detour_node_up.*$/gm)?.join('; ')}`,
      );
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
