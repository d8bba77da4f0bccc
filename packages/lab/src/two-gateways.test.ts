// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { parseIntent } from '@detour/intent';
import { describe, expect, it } from 'vitest';
import { gatewayBgpd, ROUTER_BFDD, routerBgpd, twoGateways, twoGatewaysIntent } from './two-gateways.js';

const page = readFileSync(new URL('../../../docs/two-gateways.md', import.meta.url), 'utf8');
const blocks = (kind: string): string[] =>
  [...page.matchAll(new RegExp(`^\`\`\`${kind}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(([, text = '']) => text);

describe('docs/two-gateways.md', () => {
  it('has the routing of the lab', () => {
    expect(blocks('frr')).toEqual([gatewayBgpd(0), routerBgpd('inside'), ROUTER_BFDD]);
    const [settings = ''] = blocks('env');
    expect(settings.split('\n').slice(0, 2)).toEqual([
      `DETOUR_ANNOUNCE=${twoGateways[0]?.announce}`,
      `DETOUR_ROUTERS=${twoGateways[0]?.routers?.join()}`,
    ]);
  });

  it('has gateways and nodes as the lab has them', () => {
    const [text = ''] = blocks('yaml');
    const [ours, theirs] = [text, JSON.stringify(twoGatewaysIntent({ firewalls: 1 }))].map((document) => {
      const parsed = parseIntent(document, 'page');
      if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
      const { gateways, nodes } = parsed.intent;
      return { gateways, attached: nodes.map(({ name, attach }) => ({ name, attach })) };
    });
    expect(ours).toEqual(theirs);
  });
});
