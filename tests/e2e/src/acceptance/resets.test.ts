// SPDX-License-Identifier: Apache-2.0
// onNodeDown: keep, with the TCP of real ends: when a node dies, both ends of each of its connections hear so at once, and begin anew.
import type { IntentDocument } from '@detour/intent';
import {
  clientAddresses,
  type LabProcess,
  standardAddresses,
  startCapture,
  startTraffic,
  waitFor,
} from '@detour/lab';
import { parseFrame } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, startAcceptanceLab } from './acceptance-lab.js';

const COUNT = 60;
const PORT = 8_010;
const SNAT = '203.0.113.77';
/** From the moment in which the gateway takes the node for dead. An end that is told nothing tries again for a quarter of an hour. */
const AT_ONCE_MS = 3_000;

/** An echo server that says how each connection ended. */
const ECHO = `require('node:net').createServer((socket) => {
  socket.on('error', (error) => console.log(error.code));
  socket.on('close', (failed) => failed || console.log('closed'));
  socket.pipe(socket);
}).listen({ host: '::', port: ${PORT} }, () => console.log('ready'))`;

function intentOf(standard: IntentDocument, snat?: string): IntentDocument {
  return {
    ...standard,
    nodes: (standard.nodes ?? []).map((node) => ({ ...node, attributes: {} })),
    chains: (standard.chains ?? []).map((chain) => ({ ...chain, onNodeDown: 'keep' as const })),
    gateways: (standard.gateways ?? []).map((gateway) => ({
      ...gateway,
      ports: (gateway.ports ?? []).map((port) =>
        port.kind === 'uplink' && snat !== undefined ? { ...port, snat } : port,
      ),
    })),
  };
}

describe('connections that are kept at a node that dies', () => {
  let bench: AcceptanceLab;
  let standard: IntentDocument;
  let server: LabProcess;

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-resets', {
      firewalls: 2,
      intent: (given) => {
        standard = given;
        return intentOf(given);
      },
    });
    await bench.lab.exec('edge1', ['ip', 'address', 'add', `${SNAT}/32`, 'dev', 'eth2']);
    server = bench.lab.spawn('server', [process.execPath, '-e', ECHO], { name: 'echo' });
    await waitFor(() => server.log().includes('ready'), { what: 'the server' });
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });

  const said = (what: string): number =>
    server
      .log()
      .split('\n')
      .filter((line) => line === what).length;
  /** RSTs that came to an end's device, by the address that they came from. */
  const captureResets = (ns: string) =>
    startCapture(bench.lab, ns, 'eth0', {
      ...{ direction: 'in', filter: `tcp port ${PORT}` },
    });
  const resetsOf = async (capture: Awaited<ReturnType<typeof captureResets>>): Promise<string[]> =>
    (await capture.stop()).flatMap(({ bytes }) => {
      const frame = parseFrame(bytes);
      if (!frame.ok || ((frame.value.tcp?.flags ?? 0) & 4) === 0) return [];
      const { ipv4, ipv6 } = frame.value;
      return [(ipv4 ?? ipv6)?.src ?? ''];
    });

  it.each([
    ['IPv4', clientAddresses(4), standardAddresses.server, undefined],
    ['IPv6', [standardAddresses.client6], standardAddresses.server6, undefined],
    ['IPv4 behind SNAT', clientAddresses(4), standardAddresses.server, SNAT],
  ] as const)(
    '%s: both ends get ECONNRESET at once, and the client connects anew by another node',
    async (_what, localAddresses, address, snat) => {
      await bench.apply(intentOf(standard, snat));
      await using client = startTraffic(bench.lab, 'client');
      const open = () =>
        client.openTcp({ count: COUNT, localAddresses, remote: { address, port: PORT }, intervalMs: 50 });
      const group = await open();
      expect(group).toMatchObject({ opened: COUNT, failed: {} });
      const rows = async () => (await group.report()).connections;
      await waitFor(async () => (await rows()).every(({ received }) => received >= 3), {
        what: 'echoes on each',
      });
      const ofFw1 = (await bench.firewall('fw1').conntrack({ protocol: 'tcp', destinationPort: PORT }))
        .filter(({ state }) => state === 'ESTABLISHED')
        .map(({ source, sourcePort }) => `${source} ${sourcePort}`);
      const isOfFw1 = (one: { localAddress: string; localPort: number }): boolean =>
        ofFw1.includes(`${one.localAddress} ${one.localPort}`);
      const lost = (await rows()).filter(isOfFw1).length;
      expect(lost).toBeGreaterThan(COUNT / 5);
      expect(lost).toBeLessThan(COUNT);
      const resetBefore = said('ECONNRESET');
      const { stats } = await bench.counters();

      await using toClient = await captureResets('client');
      await using toServer = await captureResets('server');
      await bench.firewall('fw1').silence();
      await bench.awaitNodes(['fw1'], false);
      await waitFor(
        async () =>
          (await rows()).filter(isOfFw1).every(({ error }) => error === 'ECONNRESET') &&
          said('ECONNRESET') === resetBefore + lost,
        { what: `ECONNRESET at both ends of ${lost} connections`, timeoutMs: AT_ONCE_MS, everyMs: 20 },
      );
      // While the node is still dead: the next connections are whole.
      const anew = await open();
      expect(anew).toMatchObject({ opened: COUNT, failed: {} });
      const others = (await rows()).filter((one) => !isOfFw1(one));
      expect(
        others.filter(({ isOpen, error, corrupt }) => !isOpen || error !== undefined || corrupt),
      ).toEqual([]);

      const [atClient, atServer] = [await resetsOf(toClient), await resetsOf(toServer)];
      for (const resets of [atClient, atServer]) {
        expect(resets.length).toBeGreaterThanOrEqual(lost);
        expect(resets.length).toBeLessThanOrEqual(2 * lost); // once, and once more where its end spoke for itself
      }
      expect(new Set(atClient)).toEqual(new Set([address]));
      expect(new Set(atServer)).toEqual(new Set(snat === undefined ? localAddresses : [snat]));
      const after = await bench.counters();
      const asked = Number((after.stats.reset ?? 0n) - (stats.reset ?? 0n));
      expect(asked).toBeGreaterThanOrEqual(lost);
      expect(Number(after.drops.node_down)).toBeGreaterThanOrEqual(asked);

      await bench.firewall('fw1').restore();
      await bench.awaitNodes(['fw1'], true);
      await group.close();
      await anew.close();
    },
  );
});
