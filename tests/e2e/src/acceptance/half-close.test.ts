// SPDX-License-Identifier: Apache-2.0
/**
 * Connections that one side closes at once, while the other sends on for long: with the TCP of real ends, through firewalls that drop what
 * they did not see begin, and a gateway that loses every record in their middle.
 */
import { rmSync } from 'node:fs';
import type { IntentDocument } from '@detour/intent';
import { standardAddresses, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, startAcceptanceLab } from './acceptance-lab.js';
import { expectNoneRefused } from './expectations.js';
import { awaitWeights } from './reports.js';

const COUNT = 40;
const PORT = 8_011;
const CHUNK_BYTES = 1_000;
const CHUNKS = 250;
const EVERY_MS = 100;

/** Answers when the other side has closed: one chunk every 100 ms, then its own FIN. */
const SERVER = `require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', (error) => console.log(error.code)).resume().on('end', () => {
    let left = ${CHUNKS};
    const timer = setInterval(() => {
      socket.write(Buffer.alloc(${CHUNK_BYTES}, 1));
      if (--left === 0) { clearInterval(timer); socket.end(); }
    }, ${EVERY_MS});
  });
}).listen({ host: '::', port: ${PORT} }, () => console.log('ready'))`;

/** Asks, closes its side, and says for each connection its port, when it has had its answer, and how much it was. */
const CLIENT = `const { connect } = require('node:net');
for (let i = 0; i < ${COUNT}; i++) {
  let bytes = 0, port = 0;
  const socket = connect({ host: '${standardAddresses.server}', port: ${PORT}, allowHalfOpen: true });
  socket.on('connect', () => { port = socket.localPort; socket.end('ask'); console.log('asked', port); });
  socket.on('data', (data) => { bytes += data.length; });
  socket.on('end', () => console.log('got', port, bytes));
  socket.on('error', (error) => console.log('failed', port, error.code));
}`;

const intentOf = (standard: IntentDocument, fw1: number): IntentDocument => ({
  ...standard,
  nodes: (standard.nodes ?? []).map((node) => ({
    ...node,
    capacity: node.name === 'fw1' ? fw1 : 100,
    attributes: {},
  })),
});

describe('connections that one side has closed', () => {
  let bench: AcceptanceLab;
  let standard: IntentDocument;

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-half-close', {
      firewalls: 2,
      intent: (given) => {
        standard = given;
        return intentOf(given, 100);
      },
    });
    await awaitWeights(bench, { fw1: 1000, fw2: 1000 });
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });

  it('go on through their node, though the gateway loses their records in between, until the other side’s late FIN', async () => {
    const server = bench.lab.spawn('server', [process.execPath, '-e', SERVER], { name: 'long-answers' });
    await waitFor(() => server.log().includes('ready'), { what: 'the server' });
    const client = bench.lab.spawn('client', [process.execPath, '-e', CLIENT], { name: 'asks' });
    const lines = (what: string) =>
      client
        .log()
        .split('\n')
        .filter((line) => line.startsWith(what));
    await waitFor(() => lines('asked').length === COUNT, { what: `${COUNT} questions` });
    const recorded = async () => {
      const { figures } = await bench.status();
      return figures.pinned === BigInt(COUNT) && figures.unrecorded === 0n;
    };
    await waitFor(recorded, { what: 'all pins to be in Redis', timeoutMs: 10_000, everyMs: 100 });
    const before = await firewallOfEach();
    expect([...new Set(before.values())].sort()).toEqual(['fw1', 'fw2']);

    await bench.apply(intentOf(standard, 10)); // the hash alone would choose otherwise
    await awaitWeights(bench, { fw1: 100, fw2: 1000 });
    const { pinDir } = await bench.status();
    await bench.stack.kill('tunnel-gw');
    rmSync(pinDir, { recursive: true }); // its programs, links and maps with every flow record
    // As routers do (docs/two-gateways.md): nothing is sent there until its nodes are up. They were down for it meanwhile, and come up one by one.
    await holdBack(true);
    await bench.stack.start('tunnel-gw');
    await bench.stack.ready(['tunnel-gw']);
    await bench.awaitNodes(['fw1', 'fw2'], true);
    await holdBack(false);
    expect(lines('got'), 'the answers are still on their way').toEqual([]);

    const done = (): boolean => lines('got').length + lines('failed').length === COUNT;
    await waitFor(done, { what: 'all answers', timeoutMs: 60_000 });
    expect(lines('failed')).toEqual([]);
    expect(lines('got').filter((line) => !line.endsWith(` ${CHUNKS * CHUNK_BYTES}`))).toEqual([]);
    expect(server.log().trim()).toBe('ready'); // no connection broke there
    await expectNoneRefused(bench);
    const after = await firewallOfEach();
    expect([...before].filter(([port, firewall]) => after.get(port) !== firewall)).toEqual([]);
    const { decided } = await bench.status();
    expect(Number(decided['last-tables'])).toBe(0); // Redis was asked about each
  });

  /** What both ends send of these connections goes nowhere. */
  async function holdBack(held: boolean): Promise<void> {
    const rules = held
      ? `table ip held { chain out { type filter hook output priority 0; tcp dport ${PORT} drop; tcp sport ${PORT} drop; }; }`
      : 'delete table ip held';
    for (const ns of ['client', 'server']) await bench.lab.exec(ns, ['nft', '-f', '-'], { input: rules });
  }

  /** By the client's port; a connection at two firewalls counts for none. */
  async function firewallOfEach(): Promise<Map<number, string>> {
    const found = new Map<number, string>();
    for (const firewall of bench.firewalls)
      for (const row of await firewall.conntrack({ protocol: 'tcp', destinationPort: PORT }))
        found.set(row.sourcePort, found.has(row.sourcePort) ? 'both' : firewall.name);
    return found;
  }
});
