// SPDX-License-Identifier: Apache-2.0
// Two VRFs with the same addresses on one gateway, looked up by ip rules, as on a kernel that cannot look a table up by its id: each
// steered through its own firewall to its own server.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { IntentDocument } from '@detour/intent';
import {
  createLab,
  type Firewall,
  type Lab,
  type LabSpec,
  openFirewall,
  type Stack,
  standardAddresses,
  standardIntent,
  standardLab,
  standardPorts,
  standardTable,
  startStack,
  startTraffic,
  type TrafficAgent,
  waitFor,
} from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const BLUE_TABLE = 200;

/** The standard lab, with client and server once more behind eth3 and eth4: same addresses, another tenant. */
function twoTenants(): LabSpec {
  const red = standardLab({ firewalls: 2, clientAddresses: 1 });
  const blue: Record<string, string> = { client: 'client-b', server: 'server-b', eth1: 'eth3', eth2: 'eth4' };
  const twin = (name: string): string => blue[name] ?? name;
  const links = red.links
    .filter(({ a }) => a.ns === 'client' || a.ns === 'server')
    .map((link) => ({
      ...link,
      a: { ...link.a, ns: twin(link.a.ns), mac: (link.a.mac ?? '').replace('02:', '06:') },
      b: { ...link.b, device: twin(link.b.device), mac: (link.b.mac ?? '').replace('02:', '06:') },
    }));
  const { client = {}, server = {}, edge1 = {} } = red.namespaces;
  const routes = (edge1.routes ?? []).map((route) => ({
    ...route,
    dev: twin(route.dev ?? ''),
    table: BLUE_TABLE,
  }));
  return {
    ...red,
    namespaces: {
      ...red.namespaces,
      'client-b': client,
      'server-b': server,
      edge1: { ...edge1, routes: [...(edge1.routes ?? []), ...routes] },
    },
    links: [...red.links, ...links],
  };
}

function twoTenantsIntent(): IntentDocument {
  const red = standardIntent({ firewalls: 2 });
  const [edge1] = red.gateways ?? [];
  const [fw1, fw2] = red.nodes ?? [];
  const [web] = red.rules ?? [];
  if (edge1 === undefined || fw1 === undefined || fw2 === undefined || web === undefined)
    throw new Error('the standard intent has a gateway, two firewalls and a rule');
  return {
    ...red,
    vrfs: [
      { name: 'red', table: standardTable },
      { name: 'blue', table: BLUE_TABLE },
    ],
    gateways: [
      {
        ...edge1,
        ports: [
          ...(edge1.ports ?? []),
          { name: 'inside-b', kind: 'internal', device: 'eth3', vrf: 'blue', classify: true },
          { name: 'outside-b', kind: 'uplink', device: 'eth4', vrf: 'blue', classify: true },
        ],
      },
    ],
    services: [{ name: 'firewall' }, { name: 'firewall-b' }],
    nodes: [
      { ...fw1, attach: { ...fw1.attach, vrf: 'red' } },
      { ...fw2, service: 'firewall-b', attach: { ...fw2.attach, vrf: 'blue' } },
    ] as IntentDocument['nodes'],
    chains: [
      { name: 'inspect', hops: ['firewall'] },
      { name: 'inspect-b', hops: ['firewall-b'] },
    ],
    rules: [
      web,
      { ...web, name: 'web-out-b', match: { ...web.match, vrf: 'blue' }, action: { chain: 'inspect-b' } },
    ],
  };
}

describe('two VRFs of the same addresses, looked up by rules', () => {
  let lab: Lab;
  let stack: Stack;
  const clients: TrafficAgent[] = [];
  const firewalls: Firewall[] = [];

  beforeAll(async () => {
    lab = await createLab(twoTenants(), { name: 'vrfs' });
    stack = await startStack(lab, {
      env: (service) => (service === 'tunnel-gw' ? { DETOUR_VRF_LOOKUP: 'rules' } : {}),
    });
    clients.push(startTraffic(lab, 'client'), startTraffic(lab, 'client-b'));
    firewalls.push(openFirewall(lab, 'fw1'), openFirewall(lab, 'fw2'));
    const file = join(lab.dir, 'intent.json');
    writeFileSync(file, JSON.stringify(twoTenantsIntent()));
    const applied = await stack.cli(['apply', '-f', file, '--wait', '--timeout', '30s']);
    expect(applied).toMatchObject({ code: 0, stderr: '' });
    const areUp = async (): Promise<boolean> => {
      const paths = await stack.cliJson<{ gateways: { share: number }[] }[]>(['get', 'paths']);
      return paths.length === 2 && paths.every(({ gateways }) => gateways[0]?.share === 1);
    };
    await waitFor(areUp, { what: 'both firewalls to be chosen', timeoutMs: 30_000, everyMs: 200 });
  });
  afterAll(() => lab?.close());

  const get = async (tenant: 0 | 1, port: number, address: string) => {
    const answer = await clients[tenant]?.httpGet({ remote: { address, port }, path: '/', timeoutMs: 5_000 });
    if (answer?.ok !== true) throw new Error(`tenant ${tenant}: ${answer?.error}`);
    return answer;
  };
  const tracked = async (firewall: 0 | 1, sourcePort: number): Promise<number> =>
    (await firewalls[firewall]?.conntrack({ protocol: 'tcp', sourcePort }))?.length ?? -1;
  /** TCP connections that a tenant's server has accepted, as its kernel counts them. */
  const accepted = async (ns: string): Promise<number> => {
    const { stdout } = await lab.exec(ns, ['cat', '/proc/self/net/snmp']);
    const [names, values] = stdout
      .split('\n')
      .filter((line) => line.startsWith('Tcp:'))
      .map((line) => line.split(' '));
    return Number(values?.[names?.indexOf('PassiveOpens') ?? -1]);
  };

  it('its rules are there, in both families, before the local table', async () => {
    for (const family of ['-4', '-6']) {
      const { stdout } = await lab.exec('edge1', ['ip', family, 'rule', 'show']);
      const rules = stdout.split('\n').map((line) => line.replace(/^0:\s+from all /, ''));
      const own = [standardTable, BLUE_TABLE].flatMap((table) => [
        `iif dtr${table} lookup ${table}`,
        `iif dtr${table} unreachable`,
      ]);
      expect(rules.slice(0, 5)).toEqual([...own, 'lookup local']);
    }
  });

  it.each([
    ['IPv4', standardAddresses.server],
    ['IPv6', standardAddresses.server6],
  ])(
    "%s of each goes through its own firewall, to its own server, and nothing through the other's",
    async (_family, address) => {
      for (const tenant of [0, 1] as const) {
        const servers = tenant === 0 ? ['server', 'server-b'] : ['server-b', 'server'];
        const before = await Promise.all(servers.map(accepted));
        const { localPort } = await get(tenant, standardPorts.http[0], address);
        expect(await tracked(tenant, localPort)).toBe(1);
        expect(await tracked(tenant === 0 ? 1 : 0, localPort)).toBe(0);
        const after = await Promise.all(servers.map(accepted));
        expect(after.map((count, i) => count - (before[i] ?? Number.NaN))).toEqual([1, 0]);
      }
    },
  );

  it('what no rule names goes straight, in each', async () => {
    for (const tenant of [0, 1] as const)
      expect((await get(tenant, standardPorts.httpUnruled, standardAddresses.server)).status).toBe(200);
  });
});
