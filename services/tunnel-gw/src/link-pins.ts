// SPDX-License-Identifier: Apache-2.0
// The pins of XDP links below a pin directory, one for each device.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { openXdpLink, unpin, type XdpLink } from '@detour/bpf';
import { Fault } from '@detour/core';
import type { AttachMode } from './model.js';

/** No device has this index: a link that is opened for it is detached. */
export const NO_DEVICE = -1;

export class LinkPins {
  private readonly dir: string;

  constructor(pinDir: string) {
    this.dir = join(pinDir, 'links');
  }

  /** bpffs takes no dots. */
  path(device: string): string {
    return join(this.dir, device.replaceAll('.', '%2e'));
  }

  devices(): string[] {
    return existsSync(this.dir) ? readdirSync(this.dir).map((name) => name.replaceAll('%2e', '.')) : [];
  }

  /** The link of a device, if its program is there in the way that is wanted; one in another way is taken off. */
  open(device: string, ifindex: number, mode: AttachMode): XdpLink | null {
    if (!existsSync(this.path(device))) return null;
    try {
      const link = openXdpLink(this.path(device));
      if (link.isAttached() && link.ifindex === ifindex && (mode === 'auto' || mode === link.mode))
        return link;
      link.detach();
      link.close();
    } catch (error) {
      if (!(error instanceof Fault && error.code === 'not_found')) throw error;
    }
    this.unpin(device);
    return null;
  }

  unpin(device: string): void {
    unpin(this.path(device));
  }
}
