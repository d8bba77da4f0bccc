// SPDX-License-Identifier: Apache-2.0
/** Gateways that are cut off from what they share: packets of their own connections vanish, and nobody is told. */
import type { Lab } from '@detour/lab';

export type Shared = 'redis' | 'nats' | 'controllers';

const PORTS = { redis: 6379, nats: 4222 } as const;
const TABLE = 'detour_cut_off';

/** From now on this gateway reaches none of these. What others ask it is answered. */
export async function cutOff(lab: Lab, gateway: string, from: readonly Shared[]): Promise<void> {
  const known = Object.values(PORTS).join(', ');
  // A gateway's own connections have high ports; its gRPC and metrics, which it answers from, have low ones.
  const rules = from.map((shared) =>
    shared === 'controllers'
      ? `oifname mgmt0 tcp sport >= 32768 tcp dport != { ${known} } drop`
      : `oifname mgmt0 tcp dport ${PORTS[shared]} drop`,
  );
  await lab.exec(gateway, ['nft', '-f', '-'], {
    input: `table inet ${TABLE} {\n  chain output {\n    type filter hook output priority -400; policy accept;\n    ${rules.join('\n    ')}\n  }\n}\n`,
  });
}

/** It reaches everything again. */
export async function mend(lab: Lab, gateway: string): Promise<void> {
  // Adding first makes the deletion succeed whether or not the table was there
  await lab.exec(gateway, ['nft', '-f', '-'], {
    input: `add table inet ${TABLE}\ndelete table inet ${TABLE}\n`,
  });
}
