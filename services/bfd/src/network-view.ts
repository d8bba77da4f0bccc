// SPDX-License-Identifier: Apache-2.0
// What the kernel has now: devices, their addresses and neighbours, kept up to date over rtnetlink without ever waiting.

import { Fault } from '@detour/core';
import { C, lastErrorName, lastFault, libc } from './libc.js';
import { dumpRequest, type NetlinkEvent, parseNetlink, RTM, watchedGroups } from './netlink-wire.js';

/** A network device. */
export interface Device {
  readonly ifindex: number;
  readonly name: string;
  readonly up: boolean;
  /** Without ARP or ND: the kernel sends to the device's own MAC address, and so do we. */
  readonly noArp: boolean;
  readonly mac: string;
}

const dumps = [RTM.getLink, RTM.getAddr, RTM.getNeigh] as const;
const receiveBufferBytes = 8 << 20;

/** The kernel's devices, addresses and neighbours. */
export class NetworkView {
  readonly fd: number;
  readonly #byName = new Map<string, Device>();
  readonly #byIndex = new Map<number, Device>();
  readonly #addresses = new Set<string>();
  readonly #neighbours = new Map<string, string>();
  readonly #buffer = new Uint8Array(1 << 16);
  #dump = 0;
  #sequence = 0;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** Opens the socket and asks for everything; `ready` turns true when it has been read. @throws Fault */
  static open(): NetworkView {
    const fd = libc().socket(C.AF_NETLINK, C.SOCK_RAW | C.SOCK_CLOEXEC | C.SOCK_NONBLOCK, 0);
    if (fd < 0) throw lastFault('rtnetlink socket');
    libc().setsockopt(fd, C.SOL_SOCKET, C.SO_RCVBUFFORCE, Int32Array.of(receiveBufferBytes), 4);
    const address = new Uint8Array(12); // struct sockaddr_nl
    const view = new DataView(address.buffer);
    view.setUint16(0, C.AF_NETLINK, true);
    view.setUint32(8, watchedGroups, true);
    if (libc().bind(fd, address, 12) < 0) throw lastFault('rtnetlink groups');
    const network = new NetworkView(fd);
    network.#askAll();
    return network;
  }

  /** False until the first dump has been read, and again while everything is asked anew. */
  get ready(): boolean {
    return this.#dump === dumps.length;
  }

  device(name: string): Device | undefined {
    return this.#byName.get(name);
  }

  /** Whether the address (canonical text) is on the device and may be used as a source. */
  hasAddress(ifindex: number, address: string): boolean {
    return this.#addresses.has(`${ifindex} ${address}`);
  }

  /** Why nothing can be sent from this address by this device; null when it can. */
  obstacleTo(deviceName: string, address: string): string | null {
    const device = this.#byName.get(deviceName);
    if (device === undefined) return `device ${deviceName} does not exist yet`;
    if (!device.up) return `device ${deviceName} is not up`;
    return this.hasAddress(device.ifindex, address) ? null : `address ${address} is not on ${deviceName} yet`;
  }

  /** The MAC address to send to for reaching a neighbour; null while the kernel has not resolved it. */
  macOf(device: Device, address: string): string | null {
    if (device.noArp) return device.mac;
    return this.#neighbours.get(`${device.ifindex} ${address}`) ?? null;
  }

  /** Reads what the kernel has said. @returns whether anything changed */
  read(): boolean {
    let changed = false;
    for (;;) {
      const length = libc().recv(this.fd, this.#buffer, this.#buffer.byteLength, C.MSG_DONTWAIT);
      if (length < 0) {
        const name = lastErrorName();
        if (name === 'EAGAIN' || name === 'EINTR') return changed;
        if (name !== 'ENOBUFS') throw lastFault('reading rtnetlink');
        this.#askAll(); // events were lost: what is known may be wrong
        changed = true;
        continue;
      }
      for (const event of parseNetlink(this.#buffer.subarray(0, length)))
        changed = this.#apply(event) || changed;
    }
  }

  #askAll(): void {
    this.#byName.clear();
    this.#byIndex.clear();
    this.#addresses.clear();
    this.#neighbours.clear();
    this.#dump = 0;
    this.#ask();
  }

  #ask(): void {
    const type = dumps[this.#dump];
    if (type === undefined) return;
    const request = dumpRequest(type, ++this.#sequence);
    const kernel = new Uint8Array(12);
    new DataView(kernel.buffer).setUint16(0, C.AF_NETLINK, true);
    if (libc().sendto(this.fd, request, request.byteLength, 0, kernel, 12) < 0)
      throw lastFault('rtnetlink dump');
  }

  #apply(event: NetlinkEvent): boolean {
    switch (event.kind) {
      case 'done':
        if (event.sequence !== this.#sequence || this.ready) return false; // the end of a dump that was given up
        this.#dump += 1;
        this.#ask();
        return true;
      case 'error':
        throw new Fault('internal', `the kernel refused an rtnetlink dump: errno ${event.errno}`);
      case 'link': {
        const old = this.#byIndex.get(event.ifindex);
        if (old !== undefined && old.name !== event.name) this.#byName.delete(old.name);
        const device = { ...event };
        this.#byIndex.set(event.ifindex, device);
        this.#byName.set(event.name, device);
        return true;
      }
      case 'link-gone':
        return this.#forget(event.ifindex);
      case 'address': {
        const key = `${event.ifindex} ${event.address}`;
        if (event.usable) this.#addresses.add(key);
        else this.#addresses.delete(key);
        return true;
      }
      case 'neighbour': {
        const key = `${event.ifindex} ${event.address}`;
        const before = this.#neighbours.get(key) ?? null;
        if (event.mac === null) this.#neighbours.delete(key);
        else this.#neighbours.set(key, event.mac);
        return before !== event.mac;
      }
    }
  }

  #forget(ifindex: number): boolean {
    const old = this.#byIndex.get(ifindex);
    if (old === undefined) return false;
    this.#byIndex.delete(ifindex);
    if (this.#byName.get(old.name)?.ifindex === ifindex) this.#byName.delete(old.name);
    const prefix = `${ifindex} `;
    for (const key of this.#addresses) if (key.startsWith(prefix)) this.#addresses.delete(key);
    for (const key of this.#neighbours.keys()) if (key.startsWith(prefix)) this.#neighbours.delete(key);
    return true;
  }

  close(): void {
    libc().close(this.fd);
  }
}
