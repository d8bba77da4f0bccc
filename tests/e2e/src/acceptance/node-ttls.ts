// SPDX-License-Identifier: Apache-2.0
/** With which TTL a firewall saw a crowd's packets: every router takes one off, so the order of nodes on a path shows. */
import { parseCounters } from '@detour/lab';
import type { AcceptanceLab } from './acceptance-lab.js';
import { crowdServer } from './crowd.js';

/** Packets by TTL, in each direction; those of which there were none are left out. */
export interface NodeTtls {
  readonly toServer: Readonly<Record<number, number>>;
  readonly toClient: Readonly<Record<number, number>>;
}

const TABLE = 'crowd_ttl';
const TTLS = Array.from({ length: 8 }, (_, i) => 64 - i);
const nameOf = (way: 'server' | 'client', ttl: number) => `to_${way}_${ttl}`;

export async function countTtls(bench: AcceptanceLab, nodes: readonly string[]): Promise<void> {
  const counters = TTLS.flatMap((ttl) => [nameOf('server', ttl), nameOf('client', ttl)]);
  const rules = TTLS.flatMap((ttl) => [
    `ip daddr ${crowdServer.address} ip ttl ${ttl} counter name ${nameOf('server', ttl)}`,
    `ip saddr ${crowdServer.address} ip ttl ${ttl} counter name ${nameOf('client', ttl)}`,
  ]);
  const input = `table inet ${TABLE} {
  ${counters.map((name) => `counter ${name} { }`).join('\n  ')}
  chain forward {
    type filter hook forward priority filter + 11; policy accept;
    ${rules.join('\n    ')}
  }
}
`;
  for (const name of nodes) await bench.lab.exec(name, ['nft', '-f', '-'], { input });
}

/** Since `before`, or since `countTtls`. */
export async function readTtls(bench: AcceptanceLab, node: string, before?: NodeTtls): Promise<NodeTtls> {
  const list = ['nft', '-j', 'list', 'counters', 'table', 'inet', TABLE];
  const counters = parseCounters((await bench.lab.exec(node, list)).stdout);
  const read = (way: 'server' | 'client', was: Readonly<Record<number, number>> = {}) =>
    Object.fromEntries(
      TTLS.map((ttl) => [ttl, (counters[nameOf(way, ttl)]?.packets ?? 0) - (was[ttl] ?? 0)] as const).filter(
        ([, packets]) => packets > 0,
      ),
    );
  return { toServer: read('server', before?.toServer), toClient: read('client', before?.toClient) };
}
