// SPDX-License-Identifier: Apache-2.0
/** What is printed when the lab is left running: commands to look around with, and the one that takes it down. */
import { fileURLToPath } from 'node:url';
import type { Lab } from '../lab.js';
import type { Stack } from '../stack.js';
import { standardAddresses } from '../standard-lab.js';

/** `port`: by which the client's packets enter. */
export function exploreText({
  lab,
  stack,
  port,
}: {
  readonly lab: Lab;
  readonly stack: Stack;
  readonly port: string;
}): string {
  const cli = fileURLToPath(new URL('../../../../cli/dist/main.js', import.meta.url));
  const main = fileURLToPath(new URL('main.js', import.meta.url));
  const inside = (ns: string): string => `nsenter --net=/run/netns/${lab.netns(ns)}`;
  const detour = `${inside('mgmt')} env DETOUR_NATS=${stack.natsUrl} ${process.execPath} ${cli}`;
  const { client, server } = standardAddresses;
  return `
The lab and the stack are left running. Some ways to look around:
  detour() { ${detour} "$@"; }
  detour status
  detour get nodes                     # also flows, scores, sessions, paths, ports, drops, rules, alarms
  detour trace --port ${port} --src ${client} --dst ${server} --dport 80
  ${inside('client')} curl -s http://${server}:80/
  ${inside('fw1')} conntrack -L
  ${inside('fw1')} tcpdump -ni vxlan0
Logs are in ${lab.logDir}. Take it down with:
  ${process.execPath} ${main} --down${lab.name === 'demo' ? '' : ` --name ${lab.name}`}`;
}
