// SPDX-License-Identifier: Apache-2.0
// How tunnels' outer packets leave: the route to each remote end, and the MACs of next hops and inner peers, kept resolved by the kernel.
import { setTimeout as delay } from 'node:timers/promises';
import { compareAddresses, Fault } from '@detour/core';
import { askIpBatch } from '@detour/runtime';
import type { LinkState } from './devices.js';
import type { HopWay } from './hop-rows.js';
import { type AnyNode, type GatewayModel, isArmed } from './model.js';
import type { NeighbourWatch } from './neighbours.js';
import type { PathMtus } from './path-mtus.js';
import { addressBytes } from './row-bytes.js';

interface RouteRow {
  readonly dst?: string;
  readonly dev?: string;
  readonly gateway?: string;
}

interface OuterRoute {
  readonly device: string;
  readonly nextHop: string;
}

/** One tunnel: from our underlay address to its remote end, with the VTI and the peer inside it. */
interface TunnelEnd {
  readonly local: string;
  readonly remote: string;
  readonly device: string;
  readonly peer: string | null;
}

/** How long the kernel's word may be on its way. */
const FORGOTTEN_WITHIN_MS = 500;

type Arm = readonly [device: string, nextHop: string];

export class Ways {
  private routes: ReadonlyMap<string, OuterRoute> = new Map();
  private kept: ReadonlyMap<string, readonly [device: string, address: string]> = new Map();
  private ends: readonly TunnelEnd[] = [];
  private arms: readonly Arm[] = [];

  /** Neighbours whose MAC may be that of another link: true once the kernel has been told to ask anew. */
  private readonly doubted = new Map<string, boolean>();

  constructor(
    private readonly neighbours: NeighbourWatch,
    private readonly pathMtus: PathMtus,
    private readonly onError: (text: string) => void,
  ) {}

  /**
   * Follows the tunnels of all these models: looks up their routes and asks the kernel to keep their neighbours resolved. While a
   * revision is on its way in, that is the one in force as well.
   */
  async follow(models: readonly GatewayModel[]): Promise<void> {
    this.ends = models.flatMap(endsOf);
    this.arms = models.flatMap(armsOf);
    await this.refreshRoutes();
    await this.keepResolved();
  }

  /** From now on only this model's tunnels; nothing is looked up. */
  retain(model: GatewayModel): void {
    this.ends = endsOf(model);
    this.arms = armsOf(model);
    this.kept = this.wanted();
  }

  /** Looks the routes up again; true when one changed. */
  async refreshRoutes(): Promise<boolean> {
    const wanted = new Map(this.ends.map((end) => [end.remote, end]));
    const rows = await askIpBatch<RouteRow>(
      [...wanted.values()].map(({ remote, local }) => `route get ${remote} from ${local}`),
      (text) => this.onError(`no route to a tunnel's remote end: ${text}`),
    );
    const next = new Map<string, OuterRoute>();
    for (const remote of wanted.keys()) {
      const row = rows.find((one) => one.dst !== undefined && sameAddress(one.dst, remote));
      if (row?.dev !== undefined) next.set(remote, { device: row.dev, nextHop: row.gateway ?? remote });
    }
    const changed = JSON.stringify([...next]) !== JSON.stringify([...this.routes]);
    this.routes = next;
    return changed;
  }

  /** Asks the kernel to keep every neighbour resolved that hop rows depend on and that is not resolved now. */
  async keepResolved(): Promise<void> {
    this.kept = this.wanted();
    const missing = [...this.kept.values()].filter(
      ([device, address]) => this.neighbours.macOf(device, address) === null,
    );
    await this.neighbours.keepResolved(missing, this.onError);
  }

  /**
   * Some arms go to another link, and their next hops may have other MACs there: what is known of them is not used from now on, neither on the old
   * link nor on the new one. To be called when the rows in force lead to the new links: the kernel forgets what it knows, and asks there.
   */
  move(before: GatewayModel | null, after: GatewayModel, onChange: () => void): () => Promise<void> {
    const arms = movedArms(before, after);
    if (arms.length === 0) return async () => {};
    const keys = arms.map(([device, address]) => `${device} ${address}`);
    for (const key of keys) this.doubted.set(key, false);
    onChange();
    return async () => {
      for (const key of keys) this.doubted.set(key, true);
      await this.neighbours.resolveAnew(arms, this.onError);
      const deadlineMs = performance.now() + FORGOTTEN_WITHIN_MS;
      while (keys.some((key) => this.doubted.has(key)) && performance.now() < deadlineMs) await delay(5);
      for (const key of keys) this.doubted.delete(key); // what was not known is not said to be forgotten
      onChange();
    };
  }

  /** The kernel knows nothing of this neighbour any more: what it says next was learnt anew. */
  forgotten(device: string, address: string): void {
    const key = `${device} ${address}`;
    if (this.doubted.get(key) === true) this.doubted.delete(key);
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
      linkMtu: this.pathMtus.within(remote, outer?.mtu ?? 0),
      innerSourceMac: vti.mac,
      innerPeerMac: peer === null ? null : this.neighbours.macOf(device, peer),
    };
  }

  /** Bytes of the largest outer packet to a remote end, of those that its device takes. */
  mtuTo(remote: string, linkMtu: number): number {
    return this.pathMtus.within(remote, linkMtu);
  }

  macOf(device: string, address: string): string | null {
    return this.doubted.has(`${device} ${address}`) ? null : this.neighbours.macOf(device, address);
  }

  /** Why a node's hop is not ready, in a sentence; empty when it is. */
  explain(node: AnyNode): string {
    if (isArmed(node)) {
      const silent = node.arms.find((arm) => this.macOf(arm.device, arm.nextHop) === null);
      return silent === undefined ? '' : `${silent.nextHop} does not answer through ${silent.device}`;
    }
    const { remote, device, peer } = node;
    const route = this.routes.get(remote);
    if (route === undefined) return `no route to ${remote}`;
    if (this.neighbours.macOf(route.device, route.nextHop) === null)
      return `${route.nextHop} does not answer on ${route.device}`;
    return this.neighbours.macOf(device, peer) === null ? `${peer} does not answer through ${device}` : '';
  }

  private wanted(): Map<string, readonly [string, string]> {
    const wanted = new Map<string, readonly [string, string]>();
    const want = (device: string, address: string) => wanted.set(`${device} ${address}`, [device, address]);
    for (const end of this.ends) {
      const route = this.routes.get(end.remote);
      if (route !== undefined) want(route.device, route.nextHop);
      if (end.peer !== null) want(end.device, end.peer);
    }
    for (const [device, address] of this.arms) want(device, address);
    return wanted;
  }
}

function endsOf(model: GatewayModel): TunnelEnd[] {
  const local = model.underlay.address;
  return [
    ...model.nodes.map(({ remote, device, peer }) => ({ local, remote, device, peer })),
    ...model.ports.flatMap((port) =>
      port.tunnel === null ? [] : [{ local, remote: port.tunnel.remote, device: port.device, peer: null }],
    ),
  ];
}

function armsOf(model: GatewayModel): Arm[] {
  return model.armed.flatMap(({ arms }) => arms.map(({ device, nextHop }) => [device, nextHop] as const));
}

/** Arms that both models have, with the same next hop, on another link or with other tags. */
function movedArms(before: GatewayModel | null, after: GatewayModel): Arm[] {
  const place = (model: GatewayModel) =>
    new Map(
      model.armed
        .flatMap(({ arms }) => arms)
        .map((arm) => [`${arm.device} ${arm.nextHop}`, { arm, on: JSON.stringify([arm.lower, arm.tags]) }]),
    );
  const was = before === null ? new Map<string, { on: string }>() : place(before);
  return [...place(after)].flatMap(([key, { arm, on }]) => {
    const old = was.get(key);
    return old === undefined || old.on === on ? [] : [[arm.device, arm.nextHop] as const];
  });
}

function sameAddress(one: string, other: string): boolean {
  return compareAddresses(addressBytes(one), addressBytes(other)) === 0;
}
