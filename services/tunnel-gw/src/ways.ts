// SPDX-License-Identifier: Apache-2.0
// How tunnels' outer packets leave: the route to each remote end, and the MACs of next hops and inner peers, kept resolved by the kernel.
import { Fault } from '@detour/core';
import type { LinkState } from './devices.js';
import type { HopWay } from './hop-rows.js';
import type { GatewayModel } from './model.js';
import type { NeighbourWatch } from './neighbours.js';
import { readIp } from './system.js';

interface RouteRow {
  readonly dev?: string;
  readonly gateway?: string;
}

interface OuterRoute {
  readonly device: string;
  readonly nextHop: string;
}

export class Ways {
  private routes = new Map<string, OuterRoute>();
  private kept = new Set<string>();
  private ends: { readonly remote: string; readonly device: string; readonly peer: string | null }[] = [];
  private local = '';

  constructor(
    private readonly neighbours: NeighbourWatch,
    private readonly onError: (text: string) => void,
  ) {}

  /** Follows the tunnels of a model: looks up their routes and asks the kernel to keep their neighbours resolved. */
  async follow(model: GatewayModel): Promise<void> {
    this.local = model.underlay.address;
    this.ends = [
      ...model.nodes.map((node) => ({ remote: node.remote, device: node.device, peer: node.peer })),
      ...model.ports.flatMap((port) =>
        port.tunnel === null ? [] : [{ remote: port.tunnel.remote, device: port.device, peer: null }],
      ),
    ];
    await this.refreshRoutes();
    await this.keepResolved();
  }

  /** Looks the routes up again; true when one changed. */
  async refreshRoutes(): Promise<boolean> {
    const next = new Map<string, OuterRoute>();
    for (const remote of new Set(this.ends.map((end) => end.remote))) {
      const route = await this.routeTo(remote);
      if (route !== null) next.set(remote, route);
    }
    const changed = JSON.stringify([...next]) !== JSON.stringify([...this.routes]);
    this.routes = next;
    if (changed) await this.keepResolved();
    return changed;
  }

  /** Whether a neighbour is one that hop rows depend on. */
  concerns(device: string, address: string): boolean {
    return this.kept.has(`${device} ${address}`);
  }

  /** The way as it is known now; MACs are null while they are being resolved. @throws Fault `not_found` when a device is missing. */
  wayTo(remote: string, device: string, peer: string | null, links: ReadonlyMap<string, LinkState>): HopWay {
    const vti = links.get(device);
    if (vti === undefined) throw new Fault('not_found', `device ${device} does not exist on this machine`);
    const route = this.routes.get(remote);
    const outer = route === undefined ? undefined : links.get(route.device);
    return {
      ifindex: outer?.ifindex ?? 0,
      sourceMac: outer?.mac ?? '00:00:00:00:00:00',
      nextHopMac:
        route === undefined || outer === undefined
          ? null
          : this.neighbours.macOf(route.device, route.nextHop),
      linkMtu: outer?.mtu ?? 0,
      innerSourceMac: vti.mac,
      innerPeerMac: peer === null ? null : this.neighbours.macOf(device, peer),
    };
  }

  /** Why a node's hop is not ready, in a sentence; empty when it is. */
  explain(remote: string, device: string, peer: string): string {
    const route = this.routes.get(remote);
    if (route === undefined) return `no route to ${remote}`;
    if (this.neighbours.macOf(route.device, route.nextHop) === null)
      return `${route.nextHop} does not answer on ${route.device}`;
    return this.neighbours.macOf(device, peer) === null ? `${peer} does not answer through ${device}` : '';
  }

  private async routeTo(remote: string): Promise<OuterRoute | null> {
    try {
      const [row] = await readIp<RouteRow>(
        'route',
        'get',
        remote,
        ...(this.local === '' ? [] : ['from', this.local]),
      );
      return row?.dev === undefined ? null : { device: row.dev, nextHop: row.gateway ?? remote };
    } catch (error) {
      this.onError(
        `no route to tunnel end ${remote}: ${error instanceof Error ? error.message : String(error)}`,
      );
      return null;
    }
  }

  private async keepResolved(): Promise<void> {
    const wanted = new Map<string, [string, string]>();
    for (const end of this.ends) {
      const route = this.routes.get(end.remote);
      if (route !== undefined) wanted.set(`${route.device} ${route.nextHop}`, [route.device, route.nextHop]);
      if (end.peer !== null) wanted.set(`${end.device} ${end.peer}`, [end.device, end.peer]);
    }
    const before = this.kept;
    this.kept = new Set(wanted.keys());
    for (const [id, [device, address]] of wanted) {
      if (before.has(id) && this.neighbours.macOf(device, address) !== null) continue;
      await this.neighbours
        .keepResolved(device, address)
        .catch((error: unknown) => this.onError(String(error)));
    }
  }
}
