// SPDX-License-Identifier: Apache-2.0
// What a tunnel-gw of another ABI left pinned: its maps, each with the layout that the kernel knows of it, and the links by which its program is on
// devices and steers until this one takes its place.
import { existsSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  type BpfMap,
  closeFd,
  type Layout,
  mapLayout,
  openPinnedMap,
  unpin,
  type XdpLink,
} from '@detour/bpf';
import { Fault } from '@detour/core';
import { LinkPins, NO_DEVICE } from './link-pins.js';
import type { AttachMode } from './model.js';

export class Predecessor implements Disposable {
  private readonly maps = new Map<string, BpfMap>();
  private gone = false;

  private readonly links: LinkPins;

  private constructor(private readonly dir: string) {
    this.links = new LinkPins(dir);
  }

  /** In a pin directory, beside that of the own ABI; the one with the most devices. Null: there is none. */
  static find(pinDir: string, ownHash: string): Predecessor | null {
    if (!existsSync(pinDir)) return null;
    const found = readdirSync(pinDir)
      .filter((name) => name !== ownHash && existsSync(join(pinDir, name, 'maps', 'control')))
      .map((name) => ({
        dir: join(pinDir, name),
        devices: new LinkPins(join(pinDir, name)).devices().length,
      }))
      .filter(({ devices }) => devices > 0)
      .sort((one, other) => other.devices - one.devices);
    return found[0] === undefined ? null : new Predecessor(found[0].dir);
  }

  /** Its program is on no device any more, and its pins have gone. */
  get isGone(): boolean {
    return this.gone;
  }

  /** @throws Fault `not_found` for a map that it does not have. */
  map(name: string): BpfMap {
    const open = this.maps.get(name) ?? openPinnedMap(join(this.dir, 'maps', name));
    this.maps.set(name, open);
    return open;
  }

  /** @throws Fault `missing_feature` where the kernel does not know it. */
  layout(name: string): { readonly key: Layout; readonly value: Layout } {
    const layout = mapLayout(this.map(name));
    if (layout !== null) return layout;
    throw new Fault(
      'missing_feature',
      `map ${name} of the datapath before has no BTF: its rows cannot be read`,
    );
  }

  /** The link of a device, if its program is there in the way that is wanted; one in another way is taken off. */
  openLink(device: string, ifindex: number, mode: AttachMode): XdpLink | null {
    return this.gone ? null : this.links.open(device, ifindex, mode);
  }

  unpinLink(device: string): void {
    this.links.unpin(device);
  }

  /** Takes its program off where it still is, and all its pins away. */
  remove(): void {
    for (const device of this.links.devices()) this.links.open(device, NO_DEVICE, 'auto');
    this[Symbol.dispose]();
    for (const name of readdirSync(join(this.dir, 'maps'))) unpin(join(this.dir, 'maps', name));
    for (const name of readdirSync(this.dir)) rmdirSync(join(this.dir, name));
    rmdirSync(this.dir);
    this.gone = true;
  }

  [Symbol.dispose](): void {
    for (const map of this.maps.values()) closeFd(map.fd);
    this.maps.clear();
  }
}
