// SPDX-License-Identifier: Apache-2.0
/**
 * The intent of docs/attach-a-node.md as it stands there: nodes behind Geneve, GRE and as an appliance, all three attached by one command, and a branch
 * behind a VTI. Connections from the client to the branch cross each node, and its filter forbids what it forbids.
 */
import { fileURLToPath } from 'node:url';
import {
  standardAddresses as at,
  createLab,
  type Lab,
  type LabSpec,
  type NodeAttach,
  type Stack,
  standardLab,
  startCapture,
  startNodeAttach,
  startStack,
  waitFor,
  withServiceNode,
} from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { blocksOf, nodeDocument, viewAttached } from '../attached.js';

const [YAML = ''] = blocksOf('attach-a-node.md', 'yaml');
const BRANCH = '203.0.113.7';
const FAR = '10.7.0.9';
const FORBIDDEN_HOST = 8_443;
const server = fileURLToPath(new URL('../../../../packages/lab/dist/agents/server.js', import.meta.url));

/** What the page's nodes need on their side: its own document for `app1`, and what fits its intent for the two others. */
const gateway = { address: at.edgeUnderlay };
const NODES = {
  fw1: {
    node: 'fw1',
    underlay: { device: 'eth0', address: '192.0.2.11' },
    attach: { kind: 'tunnel', protocol: 'geneve', vni: 5001 },
    gateways: [{ ...gateway, local: '169.254.1.2', peer: '169.254.1.1' }],
  },
  fw2: {
    node: 'fw2',
    underlay: { device: 'eth0', address: '192.0.2.12' },
    attach: { kind: 'tunnel', protocol: 'gre', key: 7, inner: 'l2' },
    gateways: [{ ...gateway, local: '169.254.2.2', peer: '169.254.2.1' }],
  },
  app1: nodeDocument('app1'),
} as const;
const names = Object.keys(NODES) as (keyof typeof NODES)[];

/** The standard lab without its firewall and its server, with the three nodes, and the branch where the uplink was. */
function topology(): LabSpec {
  const { namespaces, links } = standardLab({ firewalls: 1 });
  const { fw1: _, server: __, ...kept } = namespaces;
  const far = ['fw1', 'server'];
  let spec: LabSpec = {
    namespaces: {
      ...kept,
      edge1: {
        routes: [
          { to: '10.1.0.0/24', dev: 'eth1', src: at.edgeInside, table: 100 },
          { to: `${BRANCH}/32`, dev: 'eth0' },
        ],
      },
      branch: {
        vxlans: [
          {
            name: 'vxlan0',
            vni: 7,
            local: BRANCH,
            remote: at.edgeUnderlay,
            mtu: 1500,
            addresses: ['169.254.7.2/30', `${FAR}/24`],
          },
        ],
        routes: [{ to: 'default', via: '169.254.7.1' }],
      },
    },
    links: [
      ...links.filter(({ a, b }) => !far.includes(a.ns) && !far.includes(b.ns)),
      {
        a: { ns: 'branch', device: 'eth0', addresses: [`${BRANCH}/32`, '192.0.2.70/24'], txOffload: 'off' },
        b: { ns: 'underlay', device: 'branch', bridge: 'br0', txOffload: 'off', xdpPass: true },
        mtu: 1600,
      },
    ],
  };
  for (const [i, name] of names.entries())
    spec = withServiceNode(spec, {
      name,
      underlay: ['192.0.2.11', '192.0.2.12', '192.0.2.31'][i] ?? '',
      management: `172.30.0.${11 + i}`,
      forbiddenPort: FORBIDDEN_HOST,
    });
  return spec;
}

describe('the nodes and the branch of docs/attach-a-node.md', () => {
  let lab: Lab;
  let stack: Stack;
  let views: ReturnType<typeof viewAttached>[];
  let nodes: NodeAttach[];
  const perNode = (name: string) => Promise.all(views.map((view) => view.counter(name)));
  const get = (port: number, timeoutMs = 5_000) => views[0]?.get(port, timeoutMs, FAR);

  beforeAll(async () => {
    lab = await createLab(topology(), { name: 'page-tunnels' });
    nodes = await Promise.all(names.map((name) => startNodeAttach(lab, name, NODES[name])));
    const listen = JSON.stringify({ http: [443, FORBIDDEN_HOST], echo: [], workers: 1 });
    const listener = lab.spawn('branch', [process.execPath, server, listen], { name: 'server' });
    await waitFor(() => listener.log().includes('ready'), { what: 'the branch to listen' });
    stack = await startStack(lab, {
      gateways: [{ name: 'edge1', ns: 'edge1', management: '172.30.0.2', guardDevices: ['eth1'] }],
    });
    views = names.map((node) => viewAttached({ lab, stack, node, filter: node }));
  }, 120_000);
  afterAll(() => lab?.close());

  it('is applied as it stands; every node is up on both sides', async () => {
    const applied = await stack.cli(['apply', '-f', '-', '--wait', '--timeout', '30s'], { input: YAML });
    expect(applied).toMatchObject({ code: 0, stderr: '' });
    for (const view of views) await view.gatewaySees('up');
    for (const node of nodes) await node.become('up');
    // The way to the branch is the operator's, as the page says.
    await lab.exec(
      'edge1',
      'ip route replace 10.7.0.0/24 via 169.254.7.2 dev vti-branch table 100'.split(' '),
    );
  });

  it('connections to the branch cross a node each, all three kinds have some, and VXLAN carries them on', async () => {
    await using outer = await startCapture(lab, 'branch', 'eth0', {
      filter: `udp port 4789 and host ${BRANCH}`,
    });
    const before = await perNode('accepted');
    for (let i = 0; i < 40; i++) expect(await get(443)).toMatchObject({ ok: true, status: 200 });
    const risen = (await perNode('accepted')).map((now, i) => now - (before[i] ?? 0));
    expect(Math.min(...risen)).toBeGreaterThan(0);
    expect(risen.reduce((sum, one) => sum + one, 0)).toBeGreaterThanOrEqual(40);
    expect((await outer.stop()).length).toBeGreaterThan(40 * 8);
    const { cookie = 0, strict_return = 0, tunnel_header = 0 } = (await views[0]?.drops()) ?? {};
    expect({ cookie, strict_return, tunnel_header }).toEqual({
      cookie: 0,
      strict_return: 0,
      tunnel_header: 0,
    });
  });

  it('what a filter forbids does not arrive, by whichever node', async () => {
    const { rules, ...rest } = parse(YAML) as { rules: { match: object }[] };
    const all = rules.map((rule) => ({ ...rule, match: { ...rule.match, destinationPorts: ['443-9000'] } }));
    await views[0]?.apply({ ...rest, rules: all });
    const before = await perNode('forbidden');
    for (let i = 0; i < 12; i++) expect(await get(FORBIDDEN_HOST, 400)).toMatchObject({ ok: false });
    const risen = (await perNode('forbidden')).reduce((sum, now, i) => sum + now - (before[i] ?? 0), 0);
    expect(risen).toBeGreaterThanOrEqual(12);
  });

  it('stopped by its operator, every node is left', async () => {
    for (const node of nodes) await node.stop();
    for (const view of views) await view.gatewaySees('down');
    expect(await get(443, 500)).toMatchObject({ ok: false });
  });
});
