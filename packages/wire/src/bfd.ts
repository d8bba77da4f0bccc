// SPDX-License-Identifier: Apache-2.0

/*
 * BFD control packets (RFC 5880 section 4.1): bytes to values and back, nothing else.
 *
 *    0                   1                   2                   3
 *   |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
 *   |                       My Discriminator                        |
 *   |                      Your Discriminator                       |
 *   |                    Desired Min TX Interval                    |   microseconds
 *   |                   Required Min RX Interval                    |   microseconds
 *   |                 Required Min Echo RX Interval                 |   microseconds
 *
 * The parser applies those reception rules of section 6.8.6 that need nothing but the packet; the rules that need a
 * session (is there one with Your Discriminator, does the TTL fit) belong to whoever owns the sessions. A refused packet is
 * described by `why`, one closed word that doubles as the label of a counter, and by `got`, the offending value.
 *
 * Authentication (sections 4.2-4.4, 6.7) is not spoken: a packet with the A bit is refused, as section 6.8.6 asks of a
 * system where no authentication is in use. Parsing does not keep a reference to the bytes.
 */

/** Session states, in the order of their code on the wire (RFC 5880 section 4.1, Sta). */
export const bfdStates = ['admin-down', 'down', 'init', 'up'] as const;

/** A session's state as RFC 5880 section 6.2 names it. */
export type BfdState = (typeof bfdStates)[number];

/** Diagnostic codes (RFC 5880 section 4.1); the field is five bits wide and 9-31 are reserved. */
export const bfdDiag = {
  none: 0,
  controlDetectionTimeExpired: 1,
  echoFunctionFailed: 2,
  neighborSignaledSessionDown: 3,
  forwardingPlaneReset: 4,
  pathDown: 5,
  concatenatedPathDown: 6,
  administrativelyDown: 7,
  reverseConcatenatedPathDown: 8,
} as const;

/** UDP destination port of single-hop control packets (RFC 5881 section 4). */
export const bfdControlPort = 3784;
/** UDP destination port of control packets over several hops (RFC 5883 section 5). */
export const bfdMultihopPort = 4784;
/** UDP destination port of echo packets (RFC 5881 section 4). */
export const bfdEchoPort = 3785;
/** Bytes of a control packet without authentication (RFC 5880 section 6.8.6). */
export const bfdPacketLenBytes = 24;

/** A control packet without authentication section; intervals in microseconds, discriminators unsigned 32 bit. */
export interface BfdPacket {
  /** 0-31, see {@link bfdDiag}. */
  readonly diag: number;
  readonly state: BfdState;
  readonly poll: boolean;
  readonly final: boolean;
  readonly controlPlaneIndependent: boolean;
  readonly demand: boolean;
  readonly detectMult: number;
  /** The sender's discriminator; never zero. */
  readonly myDiscr: number;
  /** The receiver's discriminator as the sender knows it; zero if it doesn't. */
  readonly yourDiscr: number;
  readonly desiredMinTxUs: number;
  readonly requiredMinRxUs: number;
  readonly requiredMinEchoRxUs: number;
}

/** Why {@link parseBfdPacket} refused: each is one discard rule of RFC 5880 section 6.8.6. */
export type BfdRefusal =
  | 'too-short'
  | 'bad-version'
  | 'bad-length'
  | 'length-beyond-payload'
  | 'zero-detect-mult'
  | 'multipoint-set'
  | 'zero-my-discriminator'
  | 'zero-your-discriminator'
  | 'authentication-unexpected';

/** A parsed packet, or the rule that refused it and the value that broke the rule. */
export type BfdParse =
  | { readonly ok: true; readonly packet: BfdPacket }
  | { readonly ok: false; readonly why: BfdRefusal; readonly got: number };

const flag = {
  poll: 0x20,
  final: 0x10,
  independent: 0x08,
  auth: 0x04,
  demand: 0x02,
  multipoint: 0x01,
} as const;

const refuse = (why: BfdRefusal, got: number): BfdParse => ({ ok: false, why, got });

/**
 * Reads a control packet from a UDP payload; never throws, whatever the bytes are.
 * Bytes beyond the packet's own Length are ignored, as RFC 5880 section 6.8.6 allows.
 */
export function parseBfdPacket(payload: Uint8Array): BfdParse {
  if (payload.byteLength < bfdPacketLenBytes) return refuse('too-short', payload.byteLength);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const versDiag = view.getUint8(0);
  const bits = view.getUint8(1);
  const detectMult = view.getUint8(2);
  const length = view.getUint8(3);
  const myDiscr = view.getUint32(4);
  const yourDiscr = view.getUint32(8);
  const state = bfdStates[(bits >> 6) as 0 | 1 | 2 | 3];
  // RFC 5880 section 6.8.6, in its order.
  if (versDiag >> 5 !== 1) return refuse('bad-version', versDiag >> 5);
  if (length < ((bits & flag.auth) === 0 ? bfdPacketLenBytes : 26)) return refuse('bad-length', length);
  if (length > payload.byteLength) return refuse('length-beyond-payload', length);
  if (detectMult === 0) return refuse('zero-detect-mult', detectMult);
  if ((bits & flag.multipoint) !== 0) return refuse('multipoint-set', bits);
  if (myDiscr === 0) return refuse('zero-my-discriminator', myDiscr);
  if (yourDiscr === 0 && (state === 'init' || state === 'up'))
    return refuse('zero-your-discriminator', bits >> 6);
  if ((bits & flag.auth) !== 0) return refuse('authentication-unexpected', bits);
  return {
    ok: true,
    packet: {
      diag: versDiag & 0x1f,
      state,
      poll: (bits & flag.poll) !== 0,
      final: (bits & flag.final) !== 0,
      controlPlaneIndependent: (bits & flag.independent) !== 0,
      demand: (bits & flag.demand) !== 0,
      detectMult,
      myDiscr,
      yourDiscr,
      desiredMinTxUs: view.getUint32(12),
      requiredMinRxUs: view.getUint32(16),
      requiredMinEchoRxUs: view.getUint32(20),
    },
  };
}

/**
 * Writes a control packet into `into` (at least {@link bfdPacketLenBytes} long, 24 new bytes by default) and returns those
 * 24 bytes. Fields wider than their place are cut to it; sessions keep their values in range (RFC 5880 section 4.1).
 */
export function encodeBfdPacket(
  packet: BfdPacket,
  into: Uint8Array = new Uint8Array(bfdPacketLenBytes),
): Uint8Array {
  const view = new DataView(into.buffer, into.byteOffset, bfdPacketLenBytes);
  view.setUint8(0, (1 << 5) | (packet.diag & 0x1f));
  view.setUint8(
    1,
    (bfdStates.indexOf(packet.state) << 6) |
      (packet.poll ? flag.poll : 0) |
      (packet.final ? flag.final : 0) |
      (packet.controlPlaneIndependent ? flag.independent : 0) |
      (packet.demand ? flag.demand : 0),
  );
  view.setUint8(2, packet.detectMult);
  view.setUint8(3, bfdPacketLenBytes);
  view.setUint32(4, packet.myDiscr);
  view.setUint32(8, packet.yourDiscr);
  view.setUint32(12, packet.desiredMinTxUs);
  view.setUint32(16, packet.requiredMinRxUs);
  view.setUint32(20, packet.requiredMinEchoRxUs);
  return into.byteLength === bfdPacketLenBytes ? into : into.subarray(0, bfdPacketLenBytes);
}
