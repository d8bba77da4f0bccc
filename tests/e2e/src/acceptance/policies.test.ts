// SPDX-License-Identifier: Apache-2.0
/** Every combination of what a chain says of failures, of dead nodes and of changed rules, with packets, and with sums that agree. */
import type { IntentDocument } from '@detour/intent';
import { waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, startAcceptanceLab } from './acceptance-lab.js';
import { type Books, HOPS_THROUGH_ONE_NODE, openBalance } from './balance.js';
import type { FlowRange } from './crowd-protocol.js';
import { namesOf } from './crowd-wire.js';
import { trackedFlows } from './node-tally.js';

const FAILURES = ['drop', 'bypass', { backup: 'spare' }] as const;
const HOPS_STRAIGHT = 1;
const COUNT = 120;
/** BFD into a tunnel whose far end is silent. */
const background = ['hop_not_ready', 'arp_fail'];

interface Policy {
  readonly onFailure: (typeof FAILURES)[number];
  readonly onNodeDown: 'rebalance' | 'keep';
  readonly onRuleChange: 'revalidate' | 'keep';
}

const POLICIES: readonly Policy[] = FAILURES.flatMap((onFailure) =>
  (['rebalance', 'keep'] as const).flatMap((onNodeDown) =>
    (['revalidate', 'keep'] as const).map((onRuleChange) => ({ onFailure, onNodeDown, onRuleChange })),
  ),
);

/** fw1 and fw2 are firewalls; fw3 is the spare of another chain. */
function intentOf(standard: IntentDocument, policy: Policy, isRuled = true): IntentDocument {
  const [rule] = standard.rules?.filter(({ name }) => name === 'udp-out') ?? [];
  if (rule === undefined) throw new Error('the standard intent has no rule udp-out');
  return {
    ...standard,
    services: [{ name: 'firewall' }, { name: 'spare' }],
    nodes: (standard.nodes ?? []).map((node) => ({
      ...node,
      service: node.name === 'fw3' ? 'spare' : 'firewall',
      attributes: {},
    })),
    chains: [
      { name: 'inspect', hops: ['firewall'], ...policy },
      { name: 'spare', hops: ['spare'] },
    ],
    rules: [isRuled ? rule : { ...rule, match: { ...rule.match, destinationPorts: [9] } }],
  };
}

describe('what a chain says of failures', () => {
  let bench: AcceptanceLab;
  let standard: IntentDocument;
  let next = 0;
  const flows = (): FlowRange => {
    next += COUNT;
    return { first: next - COUNT, count: COUNT, proto: 'udp' };
  };
  const ask = (range: FlowRange) =>
    bench.crowd.client.ask({ ...range, window: COUNT, giveUpMs: 700 }).then(({ answered }) => answered);
  /** Answers to one message a flow, and what became of all packets. */
  const exchange = async (range: FlowRange): Promise<Books & { readonly answered: number }> => {
    const balance = await openBalance(bench, { background });
    const answered = await ask(range);
    return { ...(await balance.settle()), answered };
  };

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-policies', {
      intent: (given) => {
        standard = given;
        return intentOf(given, POLICIES[0] ?? expect.fail());
      },
    });
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });

  it.each(POLICIES)('%j', async (policy) => {
    const { onFailure, onNodeDown, onRuleChange } = policy;
    await bench.apply(intentOf(standard, policy));
    await bench.awaitNodes(['fw1', 'fw2', 'fw3'], true);
    const [fw1, fw2] = [bench.firewall('fw1'), bench.firewall('fw2')];
    const old = flows();
    expect(await bench.crowd.client.open(old)).toMatchObject({ answered: COUNT });
    const ofFw1 = (await atNode('fw1', old)).length;
    expect(ofFw1).toBeGreaterThan(COUNT / 5);

    await fw1.silence();
    await bench.awaitNodes(['fw1'], false);
    const oneDown = await exchange(old);
    if (onNodeDown === 'rebalance')
      expect(oneDown).toMatchObject({
        answered: COUNT,
        dropped: {},
        hops: { [HOPS_THROUGH_ONE_NODE]: 2 * COUNT },
      });
    else
      expect(oneDown).toMatchObject({
        answered: COUNT - ofFw1,
        dropped: { node_down: ofFw1 },
        hops: { [HOPS_THROUGH_ONE_NODE]: 2 * (COUNT - ofFw1) },
      });
    expect(oneDown.bypassed).toBe(0); // another healthy path first

    await fw2.silence();
    await bench.awaitNodes(['fw2'], false);
    const fresh = await exchange(flows());
    const known = await exchange(old);
    const failed = { answered: 0, dropped: { node_down: COUNT }, hops: {}, bypassed: 0 };
    const straight = {
      answered: COUNT,
      dropped: {},
      hops: { [HOPS_STRAIGHT]: 2 * COUNT },
      bypassed: 2 * COUNT,
    };
    const spared = {
      answered: COUNT,
      dropped: {},
      hops: { [HOPS_THROUGH_ONE_NODE]: 2 * COUNT },
      bypassed: 0,
    };
    const wanted = onFailure === 'drop' ? failed : onFailure === 'bypass' ? straight : spared;
    expect(fresh).toMatchObject(wanted);
    expect(known).toMatchObject(onNodeDown === 'keep' ? failed : wanted);
    if (wanted === spared) expect((await atNode('fw3', { ...old, first: next - COUNT })).length).toBe(COUNT);

    await Promise.all([fw1.restore(), fw2.restore()]);
    await bench.awaitNodes(['fw1', 'fw2'], true);
    const last = flows();
    expect(await bench.crowd.client.open(last)).toMatchObject({ answered: COUNT });
    await bench.apply(intentOf(standard, policy, false));
    // A record follows a changed rule after the packet that met the change (ADR 0004).
    if (onRuleChange === 'revalidate')
      await waitFor(async () => (await exchange(last)).hops[HOPS_STRAIGHT] === 2 * COUNT, {
        what: 'the flows to leave the chain that no rule gives them',
        timeoutMs: 10_000,
      });
    else
      for (let round = 0; round < 2; round++)
        expect(await exchange(last)).toMatchObject({ ...spared, answered: COUNT });
    expect((await exchange(flows())).hops).toEqual({ [HOPS_STRAIGHT]: 2 * COUNT });
  });

  /** Flows of the range that a node's connection tracking knows. */
  async function atNode(node: string, range: FlowRange): Promise<string[]> {
    const tracked = await trackedFlows(bench);
    return namesOf(range).filter((flow) => tracked.get(flow)?.some((at) => at.node === node) === true);
  }
});
