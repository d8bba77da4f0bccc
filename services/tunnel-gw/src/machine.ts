// SPDX-License-Identifier: Apache-2.0
// The machine below the tables: its links, the devices of a model, the guard around them, and the program on them. Devices are made before the
// tables that name them, and removed after those that do not.
import { setImmediate } from 'node:timers/promises';
import { type AlarmCode, ruleDeviceName } from '@detour/contracts';
import { describeError } from '@detour/core';
import type { Datapath } from './datapath.js';
import {
  enableForwarding,
  ensureDevices,
  keepTags,
  type LinkState,
  makeNeighbourRoom,
  readLinks,
  removeDevices,
  type VtiDevice,
} from './devices.js';
import {
  attachedDevices,
  attachModesOf,
  guardedDevices,
  portDevices,
  requireDevices,
  routingTables,
  trunkDevices,
  vtiDevices,
} from './gateway-devices.js';
import { installGuard } from './guard.js';
import type { GatewayModel } from './model.js';
import { ensureVrfRules, removeVrfRules } from './vrf-rules.js';
import type { Ways } from './ways.js';

export interface MachineOptions {
  readonly datapath: Datapath;
  readonly ways: Ways;
  readonly sysctlDir: string;
  readonly lookupByRules: boolean;
  readonly guardDevices: readonly string[]; // from the start-up configuration: guarded whatever the revision says
  readonly onTrouble: (code: AlarmCode, text: string | null) => void;
}

/** Devices that get the program in one turn. */
const ATTACHED_AT_ONCE = 16;

/** So many have room in any kernel's neighbour table: one neighbour each, and one that asks for us. */
const FEW_DEVICES = 256;

export class Machine {
  /** As they were when the machine was last looked at. */
  links: ReadonlyMap<string, LinkState> = new Map();

  constructor(private readonly options: MachineOptions) {}

  deviceName(ifindex: number): string | undefined {
    for (const [name, link] of this.links) if (link.ifindex === ifindex) return name;
    return undefined;
  }

  /**
   * Makes what a model needs and puts the program on it; what the model in force needs stays. Returns the devices of its tunnels.
   * @throws Fault naming what is missing or cannot be made.
   */
  async prepare(model: GatewayModel, inForce: GatewayModel | null): Promise<VtiDevice[]> {
    const { guardDevices, ways } = this.options;
    const links = await readLinks();
    requireDevices(model, links);
    const vtis = this.vtisOf(model, links);
    await installGuard([...guardDevices, ...guardedDevices(model)], { keep: true });
    this.links = await this.ensureRules(model, await ensureDevices(vtis, this.options.sysctlDir));
    await keepTags(trunkDevices(model));
    enableForwarding(
      portDevices(model).filter((device) => this.links.has(device)),
      this.options.sysctlDir,
    );
    if (vtis.length > FEW_DEVICES) makeNeighbourRoom(2 * vtis.length, this.options.sysctlDir);
    await ways.follow(inForce === null ? [model] : [inForce, model]);
    await this.attachAll(model);
    return vtis;
  }

  /** A revision was refused after devices had been touched for it: they are again as the one in force wants them. False when they are not. */
  async restore(model: GatewayModel): Promise<boolean> {
    const { ways, onTrouble } = this.options;
    try {
      const links = await readLinks();
      const vtis = this.vtisOf(model, links);
      this.links = await this.ensureRules(model, await ensureDevices(vtis, this.options.sysctlDir));
      ways.retain(model);
      await this.cleanUp(model, vtis);
      return true;
    } catch (error) {
      onTrouble('cleanup_failed', `back to revision ${model.revision}: ${describeError(error)}`);
      return false;
    }
  }

  /** What only another version needed goes. */
  async cleanUp(model: GatewayModel, vtis: readonly VtiDevice[]): Promise<void> {
    const { guardDevices, datapath, onTrouble } = this.options;
    try {
      datapath.ports.detachAllBut(new Set(attachedDevices(model)));
      const tables = this.options.lookupByRules ? routingTables(model) : [];
      await removeVrfRules(tables);
      await removeDevices(new Set([...vtis.map((vti) => vti.device), ...tables.map(ruleDeviceName)]));
      await installGuard([...guardDevices, ...guardedDevices(model)]);
      onTrouble('cleanup_failed', null);
    } catch (error) {
      onTrouble('cleanup_failed', `with revision ${model.revision} in force: ${describeError(error)}`);
    }
  }

  /** Looks at links and routes again, with what `readLinks` found, and follows them; true when any changed. */
  async refresh(model: GatewayModel, links: ReadonlyMap<string, LinkState>): Promise<boolean> {
    const vtis = this.vtisOf(model, links);
    const right = vtis.every(
      ({ device, mtu, mac }) => links.get(device)?.mtu === mtu && links.get(device)?.mac === mac,
    );
    const made = right ? links : await ensureDevices(vtis, this.options.sysctlDir);
    const next = await this.ensureRules(model, made);
    const changed = JSON.stringify([...next]) !== JSON.stringify([...this.links]);
    const rerouted = await this.options.ways.refreshRoutes();
    if (!changed && !rerouted) return false;
    this.links = next;
    enableForwarding(
      portDevices(model).filter((device) => next.has(device)),
      this.options.sysctlDir,
    );
    this.attachWhatIsThere(model);
    return true;
  }

  /** Where the kernel needs rules for VRFs, those of this model; also after somebody took them away. */
  private async ensureRules(
    model: GatewayModel,
    links: ReadonlyMap<string, LinkState>,
  ): Promise<ReadonlyMap<string, LinkState>> {
    const { lookupByRules, sysctlDir } = this.options;
    return lookupByRules ? ensureVrfRules(routingTables(model), links, sysctlDir) : links;
  }

  private vtisOf(model: GatewayModel, links: ReadonlyMap<string, LinkState>): VtiDevice[] {
    const linkMtu = links.get(model.underlay.device)?.mtu ?? 1500;
    return vtiDevices(model, links, (remote) => this.options.ways.mtuTo(remote, linkMtu));
  }

  /** In portions: what comes meanwhile, health above all, is not to wait for thousands of devices. */
  private async attachAll(model: GatewayModel): Promise<void> {
    const devices = attachedDevices(model);
    const attach = this.attaching(model);
    for (let at = 0; at < devices.length; at += ATTACHED_AT_ONCE) {
      for (const device of devices.slice(at, at + ATTACHED_AT_ONCE)) attach(device);
      await setImmediate();
    }
  }

  private attaching(model: GatewayModel): (device: string) => void {
    const { datapath } = this.options;
    const modeOf = attachModesOf(model);
    return (device) => {
      const link = this.links.get(device);
      if (link !== undefined)
        datapath.ports.attach(device, link.ifindex, modeOf(device, datapath.ports.attachments()));
    };
  }

  /** After a change under a version in force: a device that came back gets its program, one that has gone is forgotten. */
  attachWhatIsThere(model: GatewayModel): void {
    const troubles: string[] = [];
    const attach = this.attaching(model);
    for (const device of attachedDevices(model)) {
      try {
        if (this.links.has(device)) attach(device);
        else this.options.datapath.ports.detach(device);
      } catch (error) {
        troubles.push(describeError(error));
      }
    }
    this.options.onTrouble('attach_failed', troubles.length === 0 ? null : troubles.join('; '));
  }
}

/** Devices by name and index: what is there, whatever its state. */
export function namesOf(links: ReadonlyMap<string, LinkState>): string {
  return JSON.stringify([...links].map(([name, { ifindex }]) => [name, ifindex]));
}
