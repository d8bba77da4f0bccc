// SPDX-License-Identifier: Apache-2.0
import { standardAddresses as at, standardPorts, startCapture, waitFor } from '@detour/lab';
import { parseFrame, TCP_FLAG } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type OneFirewall, oneFirewallIntent, raiseOneFirewall } from './one-firewall.js';
import { sendSized } from './sized-udp.js';

const FAMILIES = [
  ['IPv4', at.server, at.edgeInside],
  ['IPv6', at.server6, '2001:db8:1::1'],
] as const;
const UNDERLAY_MTU = 1500;
/** Outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14. */
const FITS = UNDERLAY_MTU - 50;
const ICMP_ORIGIN = { IPv4: 2, IPv6: 3 } as const; // SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6

describe('packets larger than a tunnel takes', () => {
  let rig: OneFirewall;
  beforeAll(async () => {
    rig = await raiseOneFirewall('too-big', { underlayMtu: UNDERLAY_MTU });
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  it.each(FAMILIES)(
    'TUN-10 %s: with an underlay of 1500, every DF packet of 1500 bytes is answered with what fits, and what fits arrives intact',
    async (family, address, own) => {
      const count = 12;
      const sent = { address, count, dontFragment: true };
      await using heard = await startCapture(rig.lab, 'client', 'eth0', {
        ...{ filter: 'icmp or icmp6', direction: 'in' },
      });
      await using arrived = await startCapture(rig.lab, 'server', 'eth0', {
        ...{ filter: `udp port ${standardPorts.echo}`, direction: 'in' },
      });
      const before = await rig.tooBig();
      const fates = await sendSized(rig.lab, { ...sent, bytes: 1500 });
      expect(fates).toEqual(
        Array(count).fill({ fate: 'told', mtu: FITS, by: own, origin: ICMP_ORIGIN[family] }),
      );
      // None of them arrived, and each is counted: nothing was lost in silence.
      expect(await arrived.stop()).toEqual([]);
      expect((await rig.tooBig()) - before).toBe(count);
      const messages = (await heard.stop()).flatMap(({ bytes }) => {
        const frame = parseFrame(bytes);
        return frame.ok && frame.value.icmp?.rest === FITS ? [frame.value.payload] : [];
      });
      expect(messages).toHaveLength(count);
      for (const quoted of messages) {
        expect(quoted.length).toBe(family === 'IPv4' ? 548 : 1232);
        const said = new DataView(quoted.buffer, quoted.byteOffset);
        expect(family === 'IPv4' ? said.getUint16(2) : 40 + said.getUint16(4)).toBe(1500);
      }
      expect(await sendSized(rig.lab, { ...sent, bytes: FITS })).toEqual(
        Array(count).fill({ fate: 'echoed' }),
      );
      expect((await rig.tooBig()) - before).toBe(count);
    },
  );

  const download = async (address: string): Promise<number> => {
    const bytes = 300_000;
    const remote = { address, port: standardPorts.http[0] };
    const answer = await rig.client.httpGet({ remote, path: `/bytes/${bytes}`, timeoutMs: 15_000 });
    if (!answer.ok) throw new Error(answer.error);
    expect([answer.status, answer.body.length]).toEqual([200, bytes]);
    return answer.localPort;
  };

  it.each(FAMILIES)('%s: TCP finds what fits by itself', async (_family, address) => {
    await rig.forgetPathMtus();
    const before = await rig.tooBig();
    const sourcePort = await download(address);
    expect(await rig.tooBig()).toBeGreaterThan(before);
    expect(await rig.fw1.conntrack({ protocol: 'tcp', sourcePort })).toMatchObject([{ replied: true }]);
  });

  it('IPv4 without DF is cut by the gateway, passes the firewall in pieces, and arrives whole', async () => {
    await rig.forgetPathMtus();
    const sent = { address: at.server, bytes: 1500, dontFragment: false };
    const before = await rig.tooBig();
    // The server's stack hears with its first echo what fits, and sends the others in pieces itself.
    await echoed({ ...sent, count: 1 });
    expect((await rig.tooBig()) - before).toBe(1);
    expect(await sendSized(rig.lab, { ...sent, count: 20 })).toEqual(Array(20).fill({ fate: 'echoed' }));
    expect((await rig.tooBig()) - before).toBe(1);
  });

  it.each(FAMILIES)('%s: datagrams of many fragments arrive whole', async (_family, address) => {
    const sent = { address, bytes: 20_000, dontFragment: false };
    // An IPv6 stack hears once what its fragments may have, and so does the server's.
    await echoed({ ...sent, count: 1 });
    expect(await sendSized(rig.lab, { ...sent, count: 10 })).toEqual(Array(10).fill({ fate: 'echoed' }));
  });

  const echoed = async (sent: Parameters<typeof sendSized>[1]): Promise<void> => {
    await waitFor(async () => (await sendSized(rig.lab, sent))[0]?.fate === 'echoed', {
      ...{ what: 'an echo', timeoutMs: 40_000 },
    });
  };

  it('with mssClamp TCP never sends what is too big', async () => {
    const chains = (oneFirewallIntent.chains ?? []).map((chain) => ({ ...chain, mssClamp: 'auto' as const }));
    await rig.apply({ ...oneFirewallIntent, chains });
    for (const [family, address] of FAMILIES) {
      await rig.forgetPathMtus();
      await using syns = await startCapture(rig.lab, 'server', 'eth0', {
        filter: `tcp port ${standardPorts.http[0]}`,
      });
      const before = await rig.tooBig();
      await download(address);
      expect([family, (await rig.tooBig()) - before]).toEqual([family, 0]);
      const offers = (await syns.stop()).flatMap(({ bytes }) => {
        const frame = parseFrame(bytes);
        const tcp = frame.ok ? frame.value.tcp : undefined;
        return tcp !== undefined && tcp.flags === TCP_FLAG.syn ? [[...tcp.options.subarray(0, 4)]] : [];
      });
      const mss = FITS - (family === 'IPv4' ? 40 : 60);
      expect(offers).toEqual([[2, 4, mss >> 8, mss & 0xff]]);
    }
  });
});
