// SPDX-License-Identifier: Apache-2.0

/*
 * UDP sockets of BFD control packets (RFC 5881 section 4).
 *
 * One listener per address family takes all packets to port 3784, on any device and address; IP_PKTINFO tells device and
 * destination, IP_RECVTTL the TTL. It is bound without address reuse, so another BFD daemon on the machine is named instead of
 * silently shared with. Each session sends from a socket of its own, bound to its device (SO_BINDTODEVICE keeps two VRFs with
 * equal addresses apart), its local address and a source port of 49152-65535 that no other session of this process has. Nothing
 * is read from these. They are not connected: an ICMP error of a peer that restarts must not fail the next transmission.
 */

import { bfdControlPort } from '@detour/wire';
import { C, lastErrorName, lastFault, libc, setInt, socketAddress } from './libc.js';
import { parseAncillary, type ReceiveBatch } from './receive-batch.js';

/** A control packet as it came: views that live until the next read. */
export interface ControlArrival {
  readonly data: Uint8Array;
  readonly source: Uint8Array;
  readonly ttl: number;
  readonly ifindex: number;
}

const CS6 = 0xc0; // network control (RFC 4594)
const receiveBufferBytes = 4 << 20;

function open(family: 4 | 6): number {
  const domain = family === 4 ? C.AF_INET : C.AF_INET6;
  const fd = libc().socket(domain, C.SOCK_DGRAM | C.SOCK_CLOEXEC | C.SOCK_NONBLOCK, 0);
  if (fd < 0) throw lastFault(`UDP socket for IPv${family}`);
  return fd;
}

/** Runs `prepare` on a fresh descriptor and closes it again if that fails. */
function prepared(fd: number, prepare: () => void): number {
  try {
    prepare();
    return fd;
  } catch (error) {
    libc().close(fd);
    throw error;
  }
}

/**
 * The socket that hears all peers of a family on a port: 3784, or 4784 for sessions over several hops.
 * @throws Fault `conflict` when another process has the port
 */
export function openListener(family: 4 | 6, port: number = bfdControlPort): number {
  const fd = open(family);
  return prepared(fd, () => {
    libc().setsockopt(fd, C.SOL_SOCKET, C.SO_RCVBUFFORCE, Int32Array.of(receiveBufferBytes), 4);
    if (family === 4) {
      setInt(fd, { level: C.IPPROTO_IP, name: C.IP_PKTINFO }, 1);
      setInt(fd, { level: C.IPPROTO_IP, name: C.IP_RECVTTL }, 1);
    } else {
      setInt(fd, { level: C.IPPROTO_IPV6, name: C.IPV6_V6ONLY }, 1);
      setInt(fd, { level: C.IPPROTO_IPV6, name: C.IPV6_RECVPKTINFO }, 1);
      setInt(fd, { level: C.IPPROTO_IPV6, name: C.IPV6_RECVHOPLIMIT }, 1);
    }
    const any = socketAddress(new Uint8Array(family === 4 ? 4 : 16), port);
    if (libc().bind(fd, any, any.byteLength) < 0) {
      throw lastFault(`UDP port ${port} (BFD) of IPv${family}`);
    }
  });
}

/** Reads one batch from a listener; true when there may be more. */
export function readControl(
  fd: number,
  batch: ReceiveBatch,
  each: (arrival: ControlArrival) => void,
): boolean {
  const count = batch.read(fd, ({ name, data, control }) => {
    const { ttl, ifindex } = parseAncillary(control);
    each({ data, source: name.byteLength === 16 ? name.subarray(4, 8) : name.subarray(8, 24), ttl, ifindex });
  });
  return count === batch.slots;
}

/** Where a session's packets go from and to; addresses of 4 or 16 bytes. */
export interface ControlPath {
  readonly device: string;
  readonly ifindex: number;
  readonly local: Uint8Array;
  readonly peer: Uint8Array;
}

/** A session's way out. */
export class ControlSender {
  readonly port: number;
  readonly #fd: number;
  readonly #to: Uint8Array;

  private constructor(fd: number, port: number, to: Uint8Array) {
    this.#fd = fd;
    this.port = port;
    this.#to = to;
  }

  /**
   * Opens the socket; `takePort` gives source ports to try, all free in this process.
   * @throws Fault `not_found` when device or address are not there (yet)
   */
  static open(path: ControlPath, takePort: () => number): ControlSender {
    const family = path.local.byteLength === 4 ? 4 : 6;
    const fd = open(family);
    let port = 0;
    prepared(fd, () => {
      const device = new TextEncoder().encode(`${path.device}\0`);
      if (libc().setsockopt(fd, C.SOL_SOCKET, C.SO_BINDTODEVICE, device, device.byteLength) < 0) {
        throw lastFault(`binding to device ${path.device}`);
      }
      if (family === 4) {
        setInt(fd, { level: C.IPPROTO_IP, name: C.IP_TTL }, 255); // RFC 5881 section 5
        setInt(fd, { level: C.IPPROTO_IP, name: C.IP_TOS }, CS6);
      } else {
        setInt(fd, { level: C.IPPROTO_IPV6, name: C.IPV6_UNICAST_HOPS }, 255);
        setInt(fd, { level: C.IPPROTO_IPV6, name: C.IPV6_TCLASS }, CS6);
      }
      setInt(fd, { level: C.SOL_SOCKET, name: C.SO_PRIORITY }, 6);
      port = bindSomePort(fd, path, takePort);
    });
    return new ControlSender(fd, port, socketAddress(path.peer, bfdControlPort, path.ifindex));
  }

  /** Sends without waiting. @returns null, or the errno name of the failure */
  send(packet: Uint8Array): string | null {
    const sent = libc().sendto(
      this.#fd,
      packet,
      packet.byteLength,
      C.MSG_DONTWAIT,
      this.#to,
      this.#to.byteLength,
    );
    return sent < 0 ? lastErrorName() : null;
  }

  close(): void {
    libc().close(this.#fd);
  }
}

function bindSomePort(fd: number, path: ControlPath, takePort: () => number): number {
  for (let attempt = 0; ; attempt++) {
    const port = takePort();
    const own = socketAddress(path.local, port, path.ifindex);
    if (libc().bind(fd, own, own.byteLength) === 0) return port;
    if (attempt === 16 || lastErrorName() !== 'EADDRINUSE')
      throw lastFault(`local UDP port ${port} on ${path.device}`);
  }
}
