// SPDX-License-Identifier: Apache-2.0
// A way of the underlay that takes less than the gateway's own link: a router between gateway and firewall says so about the first outer
// packet that is too big, and from then on the gateway says it of inner ones.
import { standardAddresses as at, type LabSpec, startCapture, waitFor } from '@detour/lab';
import { parseFrame } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type OneFirewall, raiseOneFirewall } from './acceptance/one-firewall.js';
import { sendSized } from './acceptance/sized-udp.js';

const WAY_MTU = 1400;
const FITS = WAY_MTU - 50;
const FW1 = '192.0.2.11';

/** fw1 behind a router which answers ARP for both sides. */
function behindRouter(spec: LabSpec): LabSpec {
  const links = spec.links.map((link) =>
    link.a.ns === 'fw1' && link.a.device === 'eth0'
      ? { a: link.a, b: { ns: 'router', device: 'inner', txOffload: 'off' as const }, mtu: WAY_MTU }
      : link,
  );
  return {
    namespaces: {
      ...spec.namespaces,
      router: {
        routes: [{ to: `${FW1}/32`, dev: 'inner' }],
        sysctls: {
          'net.ipv4.ip_forward': 1,
          'net.ipv4.icmp_ratelimit': 0,
          'net.ipv4.conf.inner.proxy_arp': 1,
          'net.ipv4.conf.outer.proxy_arp': 1,
          'net.ipv4.conf.all.rp_filter': 0,
          'net.ipv4.conf.outer.send_redirects': 0,
          'net.ipv4.conf.all.send_redirects': 0,
        },
      },
    },
    links: [
      ...links,
      {
        a: { ns: 'router', device: 'outer', addresses: ['192.0.2.254/24'], txOffload: 'off' },
        b: { ns: 'underlay', device: 'router', bridge: 'br0', txOffload: 'off' },
        mtu: 1600,
      },
    ],
  };
}

describe('a way that takes less than the link', () => {
  let rig: OneFirewall;
  beforeAll(async () => {
    rig = await raiseOneFirewall('path-mtu', { underlayMtu: 1500, change: behindRouter });
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());
  const sent = { address: at.server, dontFragment: true };
  const told = { fate: 'told', mtu: FITS, by: at.edgeInside, origin: 2 };

  it('the first packet that is too big for it: its sender hears what fits, from the gateway', async () => {
    await using errors = await startCapture(rig.lab, 'underlay', 'router', {
      ...{ filter: `icmp and dst host ${at.edgeUnderlay}`, direction: 'in' },
    });
    const before = await rig.tooBig();
    expect(await sendSized(rig.lab, { ...sent, bytes: FITS, count: 1 })).toEqual([{ fate: 'echoed' }]);
    expect(await sendSized(rig.lab, { ...sent, bytes: FITS + 1, count: 1 })).toEqual([told]);
    const messages = (await errors.stop()).map(({ bytes }) => {
      const frame = parseFrame(bytes);
      return frame.ok ? frame.value.icmp : undefined;
    });
    expect(messages).toEqual([{ type: 3, code: 4, rest: WAY_MTU }]);
    expect(await rig.tooBig()).toBe(before); // the gateway had forwarded it
  });

  it('the next ones: the gateway itself says what fits, and sends none of them', async () => {
    await using errors = await startCapture(rig.lab, 'underlay', 'router', {
      ...{ filter: `icmp and dst host ${at.edgeUnderlay}`, direction: 'in' },
    });
    const before = await rig.tooBig();
    const count = 8;
    expect(await sendSized(rig.lab, { ...sent, bytes: FITS + 1, count })).toEqual(Array(count).fill(told));
    expect((await rig.tooBig()) - before).toBe(count);
    expect(await errors.stop()).toEqual([]);
    const six = await sendSized(rig.lab, { ...sent, address: at.server6, bytes: FITS + 1, count });
    expect(six).toEqual(Array(count).fill({ fate: 'told', mtu: FITS, by: '2001:db8:1::1', origin: 3 }));
    for (const address of [at.server, at.server6])
      expect(await sendSized(rig.lab, { ...sent, address, bytes: FITS, count })).toEqual(
        Array(count).fill({ fate: 'echoed' }),
      );
  });

  it("the device of the node's tunnel takes as much, so that the gateway's own packets fit", async () => {
    const mtu = async (): Promise<number> => {
      const { stdout } = await rig.lab.exec('edge1', ['ip', '-j', 'link', 'show']);
      const rows = JSON.parse(stdout) as { ifname: string; mtu: number; ifalias?: string }[];
      const [node] = rows.filter((row) => row.ifalias === 'detour' && !row.ifname.startsWith('dt-inject'));
      return node?.mtu ?? 0;
    };
    await waitFor(async () => (await mtu()) === FITS, {
      what: 'the MTU of the tunnel',
      timeoutMs: 10_000,
    });
  });
});
