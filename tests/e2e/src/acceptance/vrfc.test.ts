// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import type { IntentDocument } from '@detour/intent';
import { startCapture, waitFor } from '@detour/lab';
import { bfdControlPort, parseBfdPacket, parseFrame } from '@detour/wire';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openBalance } from './balance.js';
import { pairBfd, pairIntent } from './pair-intent.js';
import { type PairLab, startPairLab } from './pair-lab.js';
import { awaitCounts, countGateway, edgeMacs, FLAGS, pairFrame, watchPair } from './pair-packets.js';

const VRFS = ['red', 'blue'];
/** RFC 5880 6.8.4, one interval, and 100 ms for the machine. */
const NOTICED_MS = pairBfd.intervalMs * (pairBfd.multiplier + 1) + 100;
const BFD = `udp port ${bfdControlPort}`;

interface Session {
  readonly id: string;
  readonly state: string;
  readonly localDiscriminator: number;
}

describe('the tables of pairs in two VRFs with the same addresses', () => {
  let bench: PairLab;
  beforeAll(async () => {
    bench = await startPairLab('vrfc', { vrfs: VRFS });
  });
  afterEach(async () => {
    await bench.forward('red', true);
    await bench.apply(bench.intent);
    for (const vrf of VRFS) await bench.awaitRow(vrf, 'up');
  });
  afterAll(() => bench?.[Symbol.asyncDispose]());

  const sessions = () => bench.stack.cliJson<Session[]>(['get', 'sessions']);
  const counted = (vrf: string) => ({ ...bench, crowd: bench.crowd(vrf) });
  const partial = (intent: IntentDocument) =>
    bench.stack.cli(['apply', '--wait', '--partial', '-f', '-'], { input: JSON.stringify(intent) });
  const steers = async (vrf: string, northPort: number) => {
    const count = await countGateway(bench);
    await bench.sender(`north-${vrf}`).send([pairFrame({ direction: 'down', northPort, flags: FLAGS.syn })]);
    await awaitCounts(count, ({ fromNode }) => fromNode[`svm-${vrf}`] === 1);
  };
  /** BFD packets at the node's two devices. */
  const watchBfd = async (vrf: string) => {
    const { node } = bench.place(vrf);
    const a = await startCapture(bench.lab, node, 'a', { filter: BFD });
    const b = await startCapture(bench.lab, node, 'b', { filter: BFD });
    return {
      /** Resolves when both have seen this many. */
      seen: (count: number) =>
        waitFor(() => Math.min(a.packets().length, b.packets().length) >= count, { what: 'BFD packets' }),
      stop: async () => ({ a: (await a.stop()).map(probeOf), b: (await b.stop()).map(probeOf) }),
      async [Symbol.asyncDispose]() {
        await a[Symbol.asyncDispose]();
        await b[Symbol.asyncDispose]();
      },
    };
  };
  const probeOf = ({ bytes, timestampUs }: { bytes: Uint8Array; timestampUs: number }) => {
    const frame = parseFrame(bytes);
    const read = frame.ok ? parseBfdPacket(frame.value.payload) : frame;
    if (!frame.ok || !read.ok || !('packet' in read)) throw new Error('no BFD packet');
    return { ...frame.value, state: read.packet.state, atUs: timestampUs };
  };

  it('VRFC-1 3 rules and 2 policies compile to a rule table of 3 records and a policy table of 2, equal to the golden file', async () => {
    const { rules = [] } = bench.intent;
    await bench.apply({ ...bench.intent, rules: rules.filter(({ name }) => name !== 'crowd-blue') });
    for (const vrf of VRFS) await bench.awaitRow(vrf, 'up');
    const golden = readFileSync(new URL('../../src/acceptance/golden/vrfc-1.json', import.meta.url), 'utf8');
    const tables = {
      rules: await bench.stack.cliJson(['get', 'rule-table']),
      policies: await bench.stack.cliJson(['get', 'policies']),
    };
    expect(tables).toEqual(JSON.parse(golden));
  });

  it('VRFC-2 a pair whose members are in two VRFs is refused by name, and the other rows are installed', async () => {
    const rows = async () => (await bench.tables()).policies.map(({ vrf, path }) => [vrf, path]);
    expect(await rows()).toEqual([
      ['blue', 'svm-blue'],
      ['red', 'svm-red'],
    ]);
    const gateways = structuredClone(bench.intent.gateways ?? []);
    const la = gateways[0]?.ports?.find(({ name }) => name === 'la-blue');
    if (la === undefined) throw new Error('the intent has no port la-blue');
    la.vrf = 'red';
    const rules = [
      ...(bench.intent.rules ?? []),
      {
        name: 'more',
        priority: 50,
        match: { vrf: 'red', protocol: 'icmp' as const },
        action: 'allow' as const,
      },
    ];
    const { code, stdout, stderr } = await partial({ ...bench.intent, gateways, rules });
    expect([code, stdout + stderr]).toEqual([
      expect.any(Number),
      expect.stringContaining('nodes[1].attach.vrfs.blue'),
    ]);
    expect(stdout + stderr).toContain('is a pair for VRF blue, but la1 is in VRF red and lb1 in VRF blue');
    await waitFor(async () => (await rows()).length === 1, { what: 'the tables without it' });
    expect(await rows()).toEqual([['red', 'svm-red']]);
    const installed = (await bench.tables()).rules.map(({ rule }) => rule);
    expect(installed).toContain('more');
    await steers('red', 44_002);
  });

  it('VRFC-3 a rule whose policy is missing follows unresolvedPolicy, with an alarm that names it; added, the next packet is redirected', async () => {
    const missing = {
      name: 'later',
      priority: 150,
      match: { vrf: 'red', source: ['office'], protocol: 'tcp' as const, destinationPorts: [99] },
      action: { chain: 'r9' },
    };
    const intent = { ...bench.intent, rules: [...(bench.intent.rules ?? []), missing] };
    await partial(intent);
    const alarms = () => bench.stack.cliJson<{ code: string; text: string }[]>(['get', 'alarms']);
    const named = await waitFor(async () => (await alarms()).find(({ code }) => code === 'rule_unresolved'), {
      what: 'the alarm',
    });
    expect(named.text).toContain('r9');
    const send = (northPort: number) =>
      bench
        .sender('north-red')
        .send([pairFrame({ direction: 'down', northPort, port: 99, flags: FLAGS.syn })]);
    const count = await countGateway(bench);
    await send(44_003);
    const dropped = await awaitCounts(count, ({ drops }) => drops.unresolved === 1);
    expect([dropped.drops, dropped.toNode]).toEqual([{ unresolved: 1 }, {}]);

    const others = async () => (await bench.tables()).rules.filter(({ rule }) => rule !== 'later');
    const before = await others();
    const { client } = bench.crowd('red');
    const flows = { first: 0, count: 20, proto: 'udp' } as const;
    await client.open(flows);
    const balance = await openBalance(counted('red'));
    await client.stream(flows, 500);
    await bench.apply({ ...intent, chains: [...(intent.chains ?? []), { name: 'r9', hops: ['svm-red'] }] });
    const after = await countGateway(bench);
    await using views = await watchPair(bench, 'red', 'tcp port 99');
    await send(44_004);
    await waitFor(async () => (await after()).lookups['up-red'] === 1, { what: 'the packet' });
    await client.stop();
    const books = await balance.settle();
    expect(books).toMatchObject({ delivered: books.sent, dropped: {}, endedInNode: {} }); // flows of other rules felt nothing
    const seen = await views.stop();
    expect([seen.a.length, seen.b.length, seen.south.length]).toEqual([1, 1, 1]);
    expect(await others()).toEqual(before);
    await waitFor(async () => !(await alarms()).some(({ code }) => code === 'rule_unresolved'), {
      what: 'it to clear',
    });
  });

  it('VRFC-5 BFD packets leave La and arrive on Lb, and the other way round: UDP to 3784 from 49152-65535, TTL 255', async () => {
    await using probes = await watchBfd('red');
    await probes.seen(30);
    const all = await probes.stop();
    // The captures do not begin and end at the same moment: what counts is when both ran, a little apart from its ends.
    const from = Math.max(all.a[0]?.atUs ?? 0, all.b[0]?.atUs ?? 0) + 1_000;
    const until = Math.min(all.a.at(-1)?.atUs ?? 0, all.b.at(-1)?.atUs ?? 0) - 1_000;
    const inside = <T extends { atUs: number }>(rows: readonly T[]) =>
      rows.filter(({ atUs }) => atUs > from && atUs < until);
    const seen = { a: inside(all.a), b: inside(all.b) };
    const macs = edgeMacs(bench, 'red');
    for (const [own, to] of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const) {
      const left = seen[own].filter(({ ethernet }) => ethernet.src === macs[own]);
      const arrived = seen[to].filter(({ ethernet }) => ethernet.src === macs[own]);
      expect(left.length).toBeGreaterThan(5);
      expect(Math.abs(left.length - arrived.length)).toBeLessThanOrEqual(1); // one may be under way at either end of the capture
      for (const { udp, ipv4, ethernet } of [...left, ...arrived]) {
        expect(ethernet.dst).toBe(macs[to]);
        expect([udp?.dstPort, ipv4?.ttl]).toEqual([3784, 255]);
        expect(udp?.srcPort).toBeGreaterThanOrEqual(49_152);
      }
    }
  });

  it("VRFC-6 only the node's inner forwarding stops, both links stay up: the row is down within the detection time", async () => {
    await using probes = await watchBfd('red');
    await probes.seen(6);
    await bench.forward('red', false);
    await bench.awaitRow('red', 'down');
    const { stdout } = await bench.lab.exec('edge1', ['ip', '-j', 'link', 'show']);
    const links = JSON.parse(stdout) as { ifname: string; operstate: string; flags: string[] }[];
    for (const device of ['la0', 'lb0'])
      expect(links.find(({ ifname }) => ifname === device)?.flags).toContain('LOWER_UP');
    const seen = await probes.stop();
    const macs = edgeMacs(bench, 'red');
    for (const [at, own, far] of [
      ['a', macs.a, macs.b],
      ['b', macs.b, macs.a],
    ] as const) {
      const last = seen[at].filter(({ ethernet }) => ethernet.src === far).at(-1)?.atUs ?? 0; // the last that came out there
      const told = seen[at].find(
        ({ ethernet, state, atUs }) => ethernet.src === own && state === 'down' && atUs > last,
      );
      expect(told).toBeDefined(); // each member noticed by itself
      expect(((told?.atUs ?? 0) - last) / 1_000).toBeLessThanOrEqual(NOTICED_MS);
    }
  });

  it("VRFC-7 red's node is killed: red's row is down, blue's, with the same addresses, stays up and loses nothing", async () => {
    const { client } = bench.crowd('blue');
    const flows = { first: 0, count: 50, proto: 'udp' } as const;
    await client.open(flows);
    const balance = await openBalance(counted('blue'));
    const downs = async () =>
      (await bench.stack.cliJson<{ vrf: string; downs: number }[]>(['get', 'sessions'])).filter(
        ({ vrf }) => vrf === 'blue',
      );
    const before = await downs();
    await client.stream(flows, 1_000);
    await waitFor(async () => (await client.report()).received.answer > 200, { what: 'traffic in blue' });
    for (const device of ['a', 'b'])
      await bench.lab.exec('svm-red', ['ip', 'link', 'set', 'dev', device, 'down']);
    await bench.awaitRow('red', 'down');
    await waitFor(async () => (await client.report()).received.answer > 2_000, {
      what: 'more traffic in blue',
    });
    await client.stop();
    const books = await balance.settle();
    expect(books).toMatchObject({
      delivered: books.sent,
      dropped: {},
      endedInNode: {},
      bypassed: 0,
      corrupt: 0,
    });
    const row = (await bench.tables()).policies.find(({ vrf }) => vrf === 'blue');
    expect(row).toMatchObject({ bfd: 'up', pair: '10.10.10.1/30 20.20.20.1/30' });
    expect((await downs()).map((one) => one.downs)).toEqual(before.map((one) => one.downs));
    for (const device of ['a', 'b'])
      await bench.lab.exec('svm-red', ['ip', 'link', 'set', 'dev', device, 'up']);
  });

  it.each(['keep', 'failover'] as const)(
    'VRFC-9 AdminDown by the operator shows as admin-down, raises no alarm, and new flows do what adminDownAction says: %s',
    async (adminDownAction) => {
      await bench.apply(pairIntent(VRFS, { adminDownAction }));
      await bench.awaitRow('red', 'up');
      const set = (state: string) => bench.stack.cli(['session', 'svm-red/red/a', state]);
      expect(await set('admin-down')).toMatchObject({ code: 0 });
      const health = async () =>
        (
          await bench.stack.cliJson<{ name: string; gateways: { health: string }[] }[]>(['get', 'nodes'])
        ).find(({ name }) => name === 'svm-red')?.gateways[0]?.health;
      await waitFor(async () => (await health()) === 'admin-down', { what: 'the status' });
      await new Promise((resolve) => setTimeout(resolve, 2 * NOTICED_MS));
      const alarms = await bench.stack.cliJson<{ code: string }[]>(['get', 'alarms']);
      expect(alarms.filter(({ code }) => code === 'node_down')).toEqual([]);
      const northPort = adminDownAction === 'keep' ? 44_009 : 44_010;
      if (adminDownAction === 'keep') await steers('red', northPort);
      else {
        const count = await countGateway(bench);
        await bench.sender('north-red').send([pairFrame({ direction: 'down', northPort, flags: FLAGS.syn })]);
        const ended = await awaitCounts(count, ({ drops }) => drops.node_down === 1);
        expect(ended.toNode).toEqual({});
      }
      expect(await set('up')).toMatchObject({ code: 0 });
    },
  );

  it('VRFC-10 two rows share a pair: the session stays when one is deleted, and stops when the second is', async () => {
    const { chains = [], rules = [] } = bench.intent;
    const second = { name: 'again-red', hops: ['svm-red'] };
    const rule = {
      name: 'again',
      priority: 60,
      match: { vrf: 'red', protocol: 'tcp' as const, destinationPorts: [88] },
      action: { chain: second.name },
    };
    const ofRed = async () => (await sessions()).filter(({ id }) => id.startsWith('svm-red/'));
    const rowsOfRed = async () => (await bench.tables()).policies.filter(({ vrf }) => vrf === 'red').length;
    const before = await ofRed();
    await bench.apply({ ...bench.intent, chains: [...chains, second], rules: [...rules, rule] });
    expect(await rowsOfRed()).toBe(2);
    await using kept = await watchBfd('red');
    const isOther = (name: string) => name !== 'inspect-red';
    const without = rules.filter(
      ({ action }) => typeof action === 'string' || action.chain !== 'inspect-red',
    );
    const one = {
      ...bench.intent,
      chains: [...chains.filter(({ name }) => isOther(name)), second],
      rules: [...without, rule],
    };
    await bench.apply(one);
    expect(await rowsOfRed()).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 2 * NOTICED_MS));
    const during = await kept.stop();
    expect(during.a.length).toBeGreaterThan(10);
    expect(new Set([...during.a, ...during.b].map(({ state }) => state))).toEqual(new Set(['up']));
    const discriminators = (all: readonly Session[]) =>
      all.map((row) => [row.id, row.localDiscriminator, row.state]);
    expect(discriminators(await ofRed())).toEqual(discriminators(before)); // the very same session

    await bench.apply({
      ...one,
      chains: one.chains.filter(({ name }) => name !== second.name),
      rules: without,
    });
    await waitFor(async () => (await ofRed()).length === 0, { what: 'the session to stop' });
    await new Promise((resolve) => setTimeout(resolve, NOTICED_MS));
    await using silence = await watchBfd('red');
    await new Promise((resolve) => setTimeout(resolve, 10 * pairBfd.intervalMs));
    expect(await silence.stop()).toEqual({ a: [], b: [] });
  });
});
