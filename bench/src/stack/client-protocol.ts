// SPDX-License-Identifier: Apache-2.0
// What is said to the client's process, and the frames that it makes.
import { onesSum } from '@detour/wire';
import { flowSource, templateFrame } from '../steer/generator-protocol.js';

/** UDP port at the server; rule `udp-out` of the standard intent names it. */
export const STACK_PORT = 8050;
/** 10.1.1.0 and up: addresses of the client's side that are none of the client's own. */
export const STACK_BASE = 0x0a01_0100;

export type ClientRequest =
  /** One packet of each of `count` flows from `first` on, as fast as they arrive: at most `window` are on their way. */
  | {
      readonly op: 'open';
      readonly first: number;
      readonly count: number;
      readonly window: number;
      readonly answering: boolean;
      readonly timeoutMs: number;
    }
  /** Packets of the flows in turn, at a rate, for a time. */
  | {
      readonly op: 'pace';
      readonly first: number;
      readonly count: number;
      readonly pps: number;
      readonly ms: number;
    }
  /** The same in the background, until `stop`. */
  | { readonly op: 'start'; readonly first: number; readonly count: number; readonly pps: number }
  | { readonly op: 'stop' }
  /** What the server has noted so far. */
  | { readonly op: 'read' }
  /** Clears what the server has noted. */
  | { readonly op: 'clear'; readonly answering: boolean };

export interface ClientReply {
  readonly sent: number;
  readonly arrived: number;
  /** From the first packet sent to the last arrival. */
  readonly seconds: number;
  readonly longestSilenceMs: number;
  /** CLOCK_MONOTONIC, nanoseconds, as text. */
  readonly silenceFromNs: string;
  readonly firstNs: string;
  readonly lastNs: string;
}

const IP_AT = 14;
const IP_BYTES = 20;
const SADDR_AT = 26;
const CHECK_AT = 24;
const SPORT_AT = 34;
const DPORT_AT = 36;

/** Frames of flows, made in place: one of them holds until as many others were made as there are slots. */
export function frameMaker(dmac: string, slots: number): (flow: number) => Uint8Array {
  const frames = Array.from({ length: slots }, () => {
    const frame = templateFrame(dmac);
    new DataView(frame.buffer).setUint16(DPORT_AT, STACK_PORT);
    return { frame, view: new DataView(frame.buffer) };
  });
  const sum = onesSum(templateFrame(dmac).subarray(IP_AT, IP_AT + IP_BYTES));
  let next = 0;
  return (flow) => {
    const { address, port } = flowSource(STACK_BASE, flow);
    const slot = frames[next] ?? frames[0];
    if (slot === undefined) throw new RangeError('no frames');
    next = (next + 1) % slots;
    let check = sum + (address >>> 16) + (address & 0xffff);
    check = (check & 0xffff) + (check >>> 16);
    check = (check & 0xffff) + (check >>> 16);
    slot.view.setUint32(SADDR_AT, address);
    slot.view.setUint16(CHECK_AT, ~check & 0xffff);
    slot.view.setUint16(SPORT_AT, port);
    return slot.frame;
  };
}
