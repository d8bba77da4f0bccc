// SPDX-License-Identifier: Apache-2.0
// What is asked of the model in force together with the machine as it is now: sizes, sides, arms, devices, addresses. Changes nothing.
import { abi } from '@detour/contracts';
import type { LinkState } from './devices.js';
import type { Machine } from './machine.js';
import { type AnyNode, type GatewayModel, isArmed, isInside } from './model.js';
import { type OwnAddress, ownAddress } from './own-address.js';
import { overheadBytes } from './tunnel-kind.js';
import type { Ways } from './ways.js';

export class RunningModel {
  /** `running`: the model in force; null before the first. */
  constructor(
    private readonly running: () => GatewayModel | null,
    private readonly machine: Machine,
    private readonly ways: Ways,
  ) {}

  private get model(): GatewayModel | null {
    return this.running();
  }

  /** Largest inner L3 packet that fits through a node's tunnel, in bytes. */
  hopMtu(node: AnyNode): number {
    if (isArmed(node))
      return Math.min(...node.arms.map((arm) => this.machine.links.get(arm.lower)?.mtu ?? 0));
    const underlay = this.machine.links.get(this.model?.underlay.device ?? '');
    return this.ways.mtuTo(node.remote, underlay?.mtu ?? 0) - overheadBytes(node);
  }

  /** Whether packets that enter by this port come from the inside: from there a pair is entered by its member b. */
  isInside(port: number): boolean {
    const row = this.model?.ports.find(({ number }) => number === port);
    return row !== undefined && isInside(row);
  }

  /** The arm of a hop row of the version in force. */
  armOf(hop: number): { readonly device: string; readonly nextHop: string } | undefined {
    const { DT_SECOND_ARM } = abi.DetourLimit;
    for (const { number, arms } of this.model?.armed ?? []) {
      if (hop === number) return arms[0];
      if (hop === number + DT_SECOND_ARM) return arms[1];
    }
    return undefined;
  }

  deviceName(ifindex: number): string | undefined {
    return this.machine.deviceName(ifindex);
  }

  /** From where somebody in a VRF is spoken to; null before there is a revision, or from nowhere. */
  ownAddress(entered: { readonly port: number; readonly node: number }, towards: string): OwnAddress | null {
    const { model } = this;
    if (model === null) return null;
    const entry = model.ports.find((port) => port.number === entered.port);
    const node = model.nodes.find((row) => row.number === entered.node);
    const vrf = (node ?? entry)?.vrf;
    if (vrf === undefined) return null;
    return ownAddress({ model, links: this.machine.links }, { vrf, entry: entry?.number ?? 0, towards });
  }

  linkOf(device: string): LinkState | undefined {
    return this.machine.links.get(device);
  }
}
