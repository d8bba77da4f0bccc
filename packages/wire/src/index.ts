// SPDX-License-Identifier: Apache-2.0
/** Packet codecs, pure: what is on a wire to values and back; and the state machine of a BFD session. */

export {
  ipToBytes,
  ipToKeyBytes,
  ipv4FromBytes,
  ipv4ToBytes,
  ipv6FromBytes,
  ipv6ToBytes,
  macFromBytes,
  macToBytes,
} from './address.js';
export type { BfdPacket, BfdParse, BfdRefusal, BfdState } from './bfd.js';
export {
  bfdControlPort,
  bfdDiag,
  bfdEchoPort,
  bfdMultihopPort,
  bfdPacketLenBytes,
  bfdStates,
  encodeBfdPacket,
  parseBfdPacket,
} from './bfd.js';
export {
  desiredMinTxUs,
  detectAtUs,
  detectTimeUs,
  newSession,
  nextTxAtUs,
  type RemoteView,
  type Session,
  type SessionEffect,
  type SessionInput,
  type SessionTimers,
  slowTxUs,
  step,
  txIntervalUs,
} from './bfd-session.js';
export { concatBytes, fromHex, sameBytes, toHex, viewOf } from './bytes.js';
export { checksum, onesSum, type Pseudo, pseudoSum } from './checksum.js';
export { brokenPackets } from './corpus.js';
export {
  type Arp,
  buildArp,
  buildEthernet,
  ETHERNET_LENGTH,
  ETHERTYPE,
  type Ethernet,
  parseArp,
  parseEthernet,
} from './ethernet.js';
export { fragmentIpv4 } from './fragments.js';
export {
  buildFrame,
  buildPacket,
  type Frame,
  type FrameFields,
  parseFrame,
  type Transport,
} from './frame.js';
export {
  buildGeneve,
  GENEVE_CRITICAL,
  GENEVE_ETHERNET,
  GENEVE_PORT,
  type Geneve,
  type GeneveFields,
  type GeneveOption,
  parseGeneve,
} from './geneve.js';
export { buildGre, GRE_ETHERNET, type Gre, parseGre } from './gre.js';
export { buildIcmp, echoRest, ICMP, ICMPV6, type Icmp, parseIcmp } from './icmp.js';
export { type IcmpErrorNews, IPV6_LEAST_MTU, icmpErrorAbout } from './icmp-error.js';
export { buildIpv4, IP_PROTOCOL, type Ipv4, type Ipv4Fields, parseIpv4 } from './ipv4.js';
export {
  buildIpv6,
  buildIpv6Extension,
  buildIpv6Fragment,
  IPV6_HEADER,
  type Ipv6,
  type Ipv6Fields,
  parseIpv6,
} from './ipv6.js';
export { accept, type Layer, type Parsed, refuse } from './parsed.js';
export { buildTcp, parseTcp, TCP_FLAG, type Tcp, type TcpFields } from './tcp.js';
export { resetForReceiver, resetForSender, type Segment } from './tcp-reset.js';
export { buildUdp, parseUdp, type Udp } from './udp.js';
export { buildVxlan, parseVxlan, VXLAN_PORT, type Vxlan } from './vxlan.js';
