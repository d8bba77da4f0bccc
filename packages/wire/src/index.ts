// SPDX-License-Identifier: Apache-2.0
export type { BfdPacket, BfdParse, BfdRefusal, BfdState } from './bfd.js';
export {
  bfdControlPort,
  bfdDiag,
  bfdEchoPort,
  bfdPacketLenBytes,
  bfdStates,
  encodeBfdPacket,
  parseBfdPacket,
} from './bfd.js';
