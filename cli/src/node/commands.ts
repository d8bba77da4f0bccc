// SPDX-License-Identifier: Apache-2.0
/** `detour node attach` and `detour node status`, as acts on a console. */
import { readFileSync } from 'node:fs';
import type { Console } from '../console.js';
import { readDocument } from '../console.js';
import { EXIT } from '../exit-codes.js';
import { type Format, render, renderTable } from '../render.js';
import { type AttachFlags, checkConfig, configOfFlags, type NodeConfig, readConfig } from './config.js';
import { askAllStatus, type GatewayStatus, type NodeStatus, runDirOf } from './status-socket.js';

/** Runs until it is interrupted. @throws Fault when it cannot begin */
export async function attach(console: Console, flags: AttachFlags): Promise<number> {
  const config = await configOf(console, flags);
  const { attachNode } = await import('./attach.js'); // libbpf is loaded for this command alone
  await attachNode({
    config,
    env: console.env,
    signal: console.signal,
    version: versionHere(),
    say: (line) => console.out(`${new Date().toISOString()} ${line}\n`),
  });
  return EXIT.ok;
}

async function configOf(console: Console, { config, ...flags }: AttachFlags): Promise<NodeConfig> {
  if (config === undefined) return checkConfig(configOfFlags(flags), 'flags');
  return readConfig(await readDocument(console, config), config);
}

function versionHere(): string {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return version;
}

/** EXIT.degraded when one of the nodes is not up. @throws Fault `not_found`, `unavailable` */
export async function nodeStatus(
  console: Console,
  { node, output }: { readonly node?: string; readonly output: Format },
): Promise<number> {
  const all = await askAllStatus(runDirOf(console.env), node);
  console.out(render({ data: all, table: all.map(page).join('\n') }, output));
  return all.every(({ state }) => state === 'up') ? EXIT.ok : EXIT.degraded;
}

function page(status: NodeStatus): string {
  const head = `${status.node} is ${status.state} since ${status.since}${status.why === '' ? '' : `: ${status.why}`}\n`;
  const gateways = renderTable<GatewayStatus>(
    [
      ['GATEWAY', (row) => row.gateway],
      ['STATE', (row) => row.state],
      ['BFD', (row) => row.bfd?.state],
      ['IN', (row) => row.packetsIn],
      ['BACK', (row) => row.packetsBack],
      ['ECHOES IN', (row) => row.echoesIn],
      ['ECHOES BACK', (row) => row.echoesBack],
      ['DROPPED', (row) => row.dropped],
    ],
    status.gateways,
  );
  const drops = Object.entries(status.drops).map(([reason, packets]) => `${reason} ${packets}`);
  const devices = Object.entries(status.devices).map(([device, mode]) => `${device} ${mode}`);
  const lines = [
    `devices: ${devices.join(', ') || 'none'}; MTU ${status.mtu}`,
    ...(drops.length === 0 ? [] : [`drops: ${drops.join(', ')}`]),
    ...(status.report === null ? [] : [`report: ${status.report}`]),
  ];
  return `${head}${gateways}${lines.join('\n')}\n`;
}
