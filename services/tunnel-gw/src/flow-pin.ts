// SPDX-License-Identifier: Apache-2.0
// The pin of a flow as its record in the kernel has it.
import { abi, type FlowRecord } from '@detour/contracts';
import { type FlowKey, PROTO } from '@detour/core';
import type { FlowHead } from './flow-head.js';
import { isProgrammed, unpackFlowWord } from './flow-word.js';
import type { ChainModel } from './model.js';
import type { PinnedFlows } from './pin-settler.js';
import type { PinUse } from './sweeper.js';

/** `gen`: what is known of its generation; a pin that was never written has the first. */
export function pinOf(
  flow: Pick<FlowHead, 'action' | 'flags' | 'path' | 'initiatorIsB' | 'chain'>,
  gen: number,
): FlowRecord {
  return {
    gen: Math.max(1, gen),
    path: flow.path,
    chain: flow.chain,
    initiatorIsB: flow.initiatorIsB,
    ...(isProgrammed(flow)
      ? { programmed: flow.action === abi.FlowAction.FLOW_DROP ? ('drop' as const) : ('allow' as const) }
      : {}),
  };
}

/** The pin as the datapath has it now; null when the flow has ended or has no path. */
export function currentPin(key: FlowKey, gateway: PinnedFlows): PinUse | null {
  const record = gateway.flows.read(key);
  if (record === null) return null;
  const word = unpackFlowWord(record.flow.word);
  const chain = gateway.decisions.chainOf(record.flow.chain);
  if (word.path === 0 || chain === undefined) return null;
  const { slot } = record.flow;
  if (slot === 0) return null; // nothing but its opening was seen: once it goes on, Redis hears of it
  return {
    key,
    slot,
    record: pinOf({ ...word, chain: chain.number }, gateway.slots.pinGenOf(slot)),
    ttlS: Math.ceil(chainIdleMs(chain, key.proto) / 1000),
  };
}

/** How long a flow may be idle, and its pin outlives its last refresh. */
export function chainIdleMs(chain: ChainModel, proto: number): number {
  if (proto === PROTO.tcp) return chain.idleMs.tcp;
  return proto === PROTO.udp ? chain.idleMs.udp : chain.idleMs.other;
}
