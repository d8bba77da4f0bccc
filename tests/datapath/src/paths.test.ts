// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { type FlowKey, normaliseTuple, selectionHash } from '@detour/core';
import { buildEthernet, buildPacket, ipToKeyBytes, parseFrame } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHAIN, fromRemote, NODES, type NodeNumber, PATH, PORT, VRF } from './ends.js';
import { disagreements, riseOf, sendOne } from './fate.js';
import { clearFlows, clientFrame, flowWord, genOf, pathOf, putFlow, readFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll, putChain, putPath } from './world.js';

const rig = openRig();
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
  rig.events();
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const { PATH_DOWN, PATH_NONE } = abi.PathState;
const end = (device: Parameters<typeof sendOne>[1], frame: Uint8Array): string =>
  sendOne(rig, device, frame).end;
const transport = { kind: 'tcp', srcPort: 40_000, dstPort: 443, flags: 16 } as const;
const request = clientFrame({ transport });
const reply = clientFrame({
  src: SERVER.ip4,
  dst: CLIENT.ip4,
  dstMac: macOf('outside'),
  transport: { ...transport, srcPort: 443, dstPort: 40_000 },
});
const SECRET = { lo: 0x03020100, hi: 0x07060504 };

/** The outer destination of what was sent. */
function sentTo(device: Parameters<typeof sendOne>[1], frame: Uint8Array): string {
  const fate = sendOne(rig, device, frame);
  const parsed = parseFrame(fate.data);
  if (fate.end !== 'forwarded' || !parsed.ok) throw new Error(`not forwarded: ${fate.end}`);
  return parsed.value.ipv4?.dst ?? 'no IPv4';
}

function returned(node: NodeNumber): Uint8Array {
  const packet = buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport });
  return fromRemote(
    NODES[node],
    buildEthernet({ dst: NODES[node].innerSrc, src: NODES[node].innerDst, etherType: 0x0800 }, packet),
  );
}

function coreKey(sport = 40_000): { key: FlowKey; norm: 0 | 1 } {
  return normaliseTuple({
    vrf: VRF,
    src: ipToKeyBytes(CLIENT.ip4),
    dst: ipToKeyBytes(SERVER.ip4),
    sport,
    dport: 443,
    proto: 6,
  });
}

describe('a chain whose generation moved', () => {
  it('keeps a flow on a path that is up, and refreshes its word once', () => {
    const key = putFlow(rig, { gen: 1 });
    putChain(rig, 0, CHAIN.two, [PATH.two], { gen: 2 });
    expect(
      riseOf(rig, 'STAT_REVALIDATED', () => expect(sentTo('inside', request)).toBe(NODES[1].remote)),
    ).toBe(1n);
    expect([pathOf(readFlow(rig, key)), genOf(readFlow(rig, key))]).toEqual([PATH.one, 2]);
    expect(riseOf(rig, 'STAT_REVALIDATED', () => sentTo('outside', reply))).toBe(0n);
    expect(rig.events()).toEqual([]);
  });

  it('moves a flow off a path that is down, both directions to the same one, and says so', () => {
    const key = putFlow(rig, { rule: 8 });
    putPath(rig, 0, PATH.one, { chain: CHAIN.two, nodes: [1], state: PATH_DOWN });
    putChain(rig, 0, CHAIN.two, [PATH.two, PATH.two, PATH.two], { gen: 2 });
    expect(riseOf(rig, 'STAT_REPINNED', () => expect(sentTo('inside', request)).toBe(NODES[2].remote))).toBe(
      1n,
    );
    expect(sentTo('outside', reply)).toBe(NODES[2].remote);
    const flow = readFlow(rig, key);
    expect([pathOf(flow), genOf(flow)]).toEqual([PATH.two, 2]);
    expect(flow.word).toBe(flowWord({ path: PATH.two, gen: 2 }, coreKey().norm));
    const events = rig.events();
    expect(events).toHaveLength(1);
    expect(events[0]?.event).toMatchObject({
      type: abi.EventType.EVENT_REPIN,
      oldPath: PATH.one,
      newPath: PATH.two,
      chain: CHAIN.two,
      pinGen: 3,
      packetLen: 0,
    });
    expect(events[0]?.event.key).toMatchObject({ vrf: VRF, proto: 6, scope: 0 });
  });

  it('moves nothing back when the first node returns', () => {
    putFlow(rig, { path: PATH.two });
    putChain(rig, 0, CHAIN.two, [PATH.one], { gen: 9 });
    expect(sentTo('inside', request)).toBe(NODES[2].remote);
  });

  it('leaves a path at once when it is down, whatever the generation and the selection table say', () => {
    putFlow(rig);
    putPath(rig, 0, PATH.one, { chain: CHAIN.two, nodes: [1], state: PATH_DOWN });
    expect(sentTo('inside', request)).toBe(NODES[2].remote);
  });

  it('goes on by the heir of a path that is down, whatever the hash says, while that one is up and of the chain', () => {
    const down = { chain: CHAIN.two, nodes: [1], state: PATH_DOWN };
    putPath(rig, 0, PATH.one, { ...down, heir: PATH.two });
    putChain(rig, 0, CHAIN.two, [PATH.one, PATH.one], { gen: 2 }); // the table does not follow yet
    const key = putFlow(rig);
    expect(sentTo('inside', request)).toBe(NODES[2].remote);
    expect(pathOf(readFlow(rig, key))).toBe(PATH.two);
    expect(rig.events()[0]?.event).toMatchObject({ type: abi.EventType.EVENT_REPIN, newPath: PATH.two });

    clearFlows(rig);
    putFlow(rig);
    putPath(rig, 0, PATH.two, { chain: CHAIN.two, nodes: [2], state: PATH_DOWN });
    expect(end('inside', request)).toBe('DROP_NODE_DOWN');
    putPath(rig, 0, PATH.two, { chain: CHAIN.pair, nodes: [2] });
    clearFlows(rig);
    putFlow(rig);
    expect(end('inside', request)).toBe('DROP_NODE_DOWN');
  });

  it('chooses as core does, whatever the affinity', () => {
    const slots = [PATH.one, PATH.two, PATH.two, PATH.one, PATH.two, PATH.one, PATH.one];
    const affinities = ['5-tuple', '3-tuple', '2-tuple', 'source'] as const;
    for (const [affinity, name] of affinities.entries()) {
      for (let sport = 41_000; sport < 41_040; sport++) {
        const { key, norm } = coreKey(sport);
        const record = putFlow(rig, { sport, path: 0, gen: 1 });
        putChain(rig, 0, CHAIN.two, slots, { gen: 2, affinity });
        sentTo('inside', clientFrame({ transport: { ...transport, srcPort: sport } }));
        const slot = selectionHash(key, name, norm === 1, SECRET) % slots.length;
        expect([name, sport, pathOf(readFlow(rig, record))]).toEqual([name, sport, slots[slot]]);
      }
    }
  });
});

describe('a node that is down', () => {
  const down = (): void => {
    putPath(rig, 0, PATH.one, { chain: CHAIN.two, nodes: [1], state: PATH_DOWN });
  };

  it('with keep: its flows are dropped, their word stays, and they go on when it is back', () => {
    const key = putFlow(rig);
    const before = readFlow(rig, key).word;
    down();
    putChain(rig, 0, CHAIN.two, [PATH.two], { gen: 2, onNodeDown: abi.OnNodeDown.ON_NODE_DOWN_KEEP });
    expect(end('inside', request)).toBe('DROP_NODE_DOWN');
    expect(end('outside', reply)).toBe('DROP_NODE_DOWN');
    expect(readFlow(rig, key).word).toBe(before);
    putPath(rig, 0, PATH.one, { chain: CHAIN.two, nodes: [1] });
    expect(sentTo('inside', request)).toBe(NODES[1].remote);
    const told = rig.events().map(({ event }) => event.type);
    expect(new Set(told)).toEqual(new Set([abi.EventType.EVENT_RESET])); // nothing was re-pinned
  });

  it('with keep: a path that is gone from the tables is left all the same', () => {
    putFlow(rig);
    putPath(rig, 0, PATH.one, { chain: 0, nodes: [], state: PATH_NONE });
    putChain(rig, 0, CHAIN.two, [PATH.two], { gen: 2, onNodeDown: abi.OnNodeDown.ON_NODE_DOWN_KEEP });
    expect(sentTo('inside', request)).toBe(NODES[2].remote);
  });

  it('with no other path: drop, until there is one again', () => {
    const key = putFlow(rig);
    down();
    putChain(rig, 0, CHAIN.two, [], { gen: 2 });
    expect(end('inside', request)).toBe('DROP_NODE_DOWN');
    expect([pathOf(readFlow(rig, key)), genOf(readFlow(rig, key))]).toEqual([0, 2]);
    expect(end('inside', request)).toBe('DROP_NODE_DOWN');
    putChain(rig, 0, CHAIN.two, [PATH.two], { gen: 3 });
    expect(sentTo('inside', request)).toBe(NODES[2].remote);
  });

  it('with bypass: the packet leaves unserviced, each one counted', () => {
    putFlow(rig, { path: PATH.open, chain: CHAIN.open });
    putPath(rig, 0, PATH.open, { chain: CHAIN.open, nodes: [1], state: PATH_DOWN });
    putChain(rig, 0, CHAIN.open, [], { gen: 2, onFailure: abi.OnFailure.ON_FAILURE_BYPASS });
    const bypassed = riseOf(rig, 'STAT_BYPASSED', () => {
      expect(sentTo('inside', request)).toBe(SERVER.ip4);
      expect(sentTo('inside', request)).toBe(SERVER.ip4);
      expect(sentTo('outside', reply)).toBe(CLIENT.ip4);
    });
    expect(bypassed).toBe(3n);
  });

  it('with a backup chain: its path is taken, and kept while it is up', () => {
    const key = putFlow(rig, { path: PATH.backed, chain: CHAIN.backed });
    const backup = { onFailure: abi.OnFailure.ON_FAILURE_BACKUP, backup: CHAIN.reserve };
    putPath(rig, 0, PATH.backed, { chain: CHAIN.backed, nodes: [1], state: PATH_DOWN });
    putChain(rig, 0, CHAIN.backed, [], { gen: 2, ...backup });
    expect(sentTo('inside', request)).toBe(NODES[2].remote);
    expect(pathOf(readFlow(rig, key))).toBe(PATH.reserve);
    putPath(rig, 0, PATH.backed, { chain: CHAIN.backed, nodes: [1] });
    putChain(rig, 0, CHAIN.backed, [PATH.backed], { gen: 3, ...backup });
    expect(sentTo('inside', request)).toBe(NODES[2].remote);
    putPath(rig, 0, PATH.reserve, { chain: CHAIN.reserve, nodes: [2], state: PATH_DOWN });
    expect(sentTo('inside', request)).toBe(NODES[1].remote);
  });

  it('with a backup chain that is down too: drop, never unserviced', () => {
    putFlow(rig, { path: PATH.backed, chain: CHAIN.backed });
    putPath(rig, 0, PATH.backed, { chain: CHAIN.backed, nodes: [1], state: PATH_DOWN });
    putPath(rig, 0, PATH.reserve, { chain: CHAIN.reserve, nodes: [2], state: PATH_DOWN });
    putChain(rig, 0, CHAIN.backed, [], {
      gen: 2,
      onFailure: abi.OnFailure.ON_FAILURE_BACKUP,
      backup: CHAIN.reserve,
    });
    expect(end('inside', request)).toBe('DROP_NODE_DOWN');
    expect(end('inside', request)).toBe('DROP_NODE_DOWN');
  });

  it('what it had returned already still leaves', () => {
    putFlow(rig);
    down();
    putChain(rig, 0, CHAIN.two, [PATH.two], { gen: 2 });
    expect(end('underlay', returned(1))).toBe('forwarded');
  });

  it('what comes back from it after the flow has moved does not', () => {
    putFlow(rig, { path: PATH.two });
    expect(end('underlay', returned(1))).toBe('DROP_STRICT_RETURN');
  });

  it('in the middle of two hops: nothing that passed only the first leaves', () => {
    putFlow(rig, { path: PATH.pair, chain: CHAIN.pair });
    putPath(rig, 0, PATH.pair, { chain: CHAIN.pair, nodes: [1, 2], state: PATH_DOWN });
    putChain(rig, 0, CHAIN.pair, [], { gen: 2 });
    expect(end('underlay', returned(1))).toBe('DROP_NODE_DOWN');
    putChain(rig, 0, CHAIN.pair, [], { gen: 3, onFailure: abi.OnFailure.ON_FAILURE_BYPASS });
    expect(end('underlay', returned(1))).toMatch(/^DROP_/);
  });
});

describe('rules that changed', () => {
  it('are reported once per flow, which goes on by its old decision', () => {
    const key = putFlow(rig);
    rig.control({ rulesGen: 2 });
    expect(sentTo('inside', request)).toBe(NODES[1].remote);
    expect(sentTo('outside', reply)).toBe(NODES[1].remote);
    const events = rig.events();
    expect(events).toHaveLength(1);
    expect(events[0]?.event).toMatchObject({
      type: abi.EventType.EVENT_REVALIDATE,
      port: PORT.inside,
      chain: CHAIN.two,
    });
    expect(readFlow(rig, key).rulesGen).toBe(2);
  });

  it('are reported for flows without a chain', () => {
    putFlow(rig, { action: abi.FlowAction.FLOW_ALLOW });
    rig.control({ rulesGen: 2 });
    expect(end('inside', request)).toBe('forwarded');
    expect(rig.events().map((held) => held.event.type)).toEqual([abi.EventType.EVENT_REVALIDATE]);
  });

  it('are not asked about where the chain keeps its flows', () => {
    putFlow(rig);
    putChain(rig, 0, CHAIN.two, [PATH.one], { onRuleChange: abi.OnRuleChange.ON_RULE_CHANGE_KEEP });
    rig.control({ rulesGen: 2 });
    expect(sentTo('inside', request)).toBe(NODES[1].remote);
    expect(rig.events()).toEqual([]);
  });
});

describe('the bank', () => {
  it('is flipped as a whole: ports, tunnels, chains, paths and hops of one revision', () => {
    putFlow(rig);
    putPath(rig, 1, PATH.one, { chain: CHAIN.two, nodes: [2] });
    expect(sentTo('inside', request)).toBe(NODES[1].remote);
    expect(end('underlay', returned(2))).toBe('DROP_STRICT_RETURN');
    rig.control({ bank: 1, routeGen: 2 });
    expect(sentTo('inside', request)).toBe(NODES[2].remote);
    expect(end('underlay', returned(2))).toBe('forwarded');
    expect(end('underlay', returned(1))).toBe('DROP_STRICT_RETURN');
    rig.map('ports').delete(abi.portKey.encode({ ifindex: rig.ifindex.inside, vlan: 0, inner: 0, bank: 1 }));
    expect(end('inside', request)).toBe('passed');
    rig.control({ bank: 0, routeGen: 3 });
    expect(sentTo('inside', request)).toBe(NODES[1].remote);
  });
});
