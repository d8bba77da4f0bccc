// SPDX-License-Identifier: Apache-2.0
// The program on its devices, by links that are pinned beside the maps and outlive this process. Those of a predecessor of the same ABI are taken over
// at once, those of one of another ABI when the tables here are live.
import { attachXdp, type BpfProgram, type XdpLink } from '@detour/bpf';
import { describeError, Fault } from '@detour/core';
import { LinkPins, NO_DEVICE } from './link-pins.js';
import type { AttachMode } from './model.js';
import type { Predecessor } from './predecessor.js';

export interface PortAttachment {
  readonly device: string;
  readonly mode: 'native' | 'generic';
  readonly why: string;
}

export interface PortLinksOptions {
  readonly program: BpfProgram;
  readonly pinDir: string;
  readonly predecessor: Predecessor | null;
  /** The tables that the program goes by are live. */
  readonly isLive: () => boolean;
}

export class PortLinks implements Disposable {
  private readonly links = new Map<string, { link: XdpLink; attachment: PortAttachment }>();
  /** Devices on which the predecessor's program still runs. */
  private readonly waiting = new Set<string>();
  private readonly pins: LinkPins;

  constructor(private readonly options: PortLinksOptions) {
    this.pins = new LinkPins(options.pinDir);
  }

  /** Puts the program on a device, or takes over the link that a predecessor pinned there. */
  attach(device: string, ifindex: number, mode: AttachMode): PortAttachment {
    const held = this.links.get(device);
    const right = held?.link.ifindex === ifindex && (mode === 'auto' || mode === held.link.mode);
    if (held !== undefined && right && held.link.isAttached()) return held.attachment;
    if (held !== undefined) this.detach(device);
    const theirs = this.options.predecessor?.openLink(device, ifindex, mode) ?? null;
    if (theirs !== null) {
      const attachment = { device, mode: theirs.mode, why: '' };
      this.links.set(device, { link: theirs, attachment });
      this.waiting.add(device);
      if (this.options.isLive()) this.replacePredecessor();
      return attachment;
    }
    const taken = this.pins.open(device, ifindex, mode);
    taken?.update(this.options.program);
    const link = taken ?? attachXdp(this.options.program, ifindex, mode);
    if (taken === null) link.pin(this.pins.path(device));
    const attachment = { device, mode: link.mode, why: link.nativeRefused ?? '' };
    this.links.set(device, { link, attachment });
    return attachment;
  }

  /** These tables are live: on every device of a predecessor's this program takes the place of the old one, in which no packet sees neither. */
  replacePredecessor(): void {
    for (const device of this.waiting) {
      const held = this.links.get(device);
      if (held === undefined) continue;
      held.link.update(this.options.program);
      this.pins.unpin(device);
      held.link.pin(this.pins.path(device));
      this.options.predecessor?.unpinLink(device);
    }
    this.waiting.clear();
  }

  /** Takes the program off a device whose port is gone. */
  detach(device: string): void {
    const held = this.links.get(device);
    if (held === undefined) return;
    held.link.detach();
    held.link.close();
    this.pins.unpin(device);
    if (this.waiting.delete(device)) this.options.predecessor?.unpinLink(device);
    this.links.delete(device);
  }

  /** Detaches from every device that is not wanted, also where only a predecessor's pin knows of it. Returns what was detached. */
  detachAllBut(wanted: ReadonlySet<string>): string[] {
    const gone = new Set([...this.links.keys()].filter((device) => !wanted.has(device)));
    for (const device of gone) this.detach(device);
    for (const device of this.pins.devices()) {
      if (wanted.has(device) || gone.has(device)) continue;
      try {
        this.pins.open(device, NO_DEVICE, 'auto');
      } catch (error) {
        throw new Fault('internal', `cannot detach from ${device}: ${describeError(error)}`, error);
      }
      gone.add(device);
    }
    return [...gone];
  }

  /** Devices that the program was taken off, by somebody else. */
  detached(): string[] {
    return [...this.links].filter(([, { link }]) => !link.isAttached()).map(([device]) => device);
  }

  attachments(): PortAttachment[] {
    return [...this.links.values()].map(({ attachment }) => attachment);
  }

  [Symbol.dispose](): void {
    for (const { link } of this.links.values()) link.close();
  }
}
