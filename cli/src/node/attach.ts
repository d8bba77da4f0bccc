// SPDX-License-Identifier: Apache-2.0
/**
 * The node's side of an attach, as one process: makes the interface pair, keeps the program on it, answers BFD, says `up` or why not. In: a checked
 * configuration. Out: log lines, the status socket, reports. State: devices of this machine, all removed at the end; what a run that ended early left
 * is taken over. While it is not running nothing crosses: gateways see that at once.
 */
import { probeFeatures, requireFeatures } from '@detour/bpf';
import { describeError, Fault } from '@detour/core';
import { ResourceStack, raisePriority, SYSCTL_DIR } from '@detour/runtime';
import { findArms } from './arms.js';
import { startReporting } from './attributes.js';
import { type BfdResponder, startBfd } from './bfd-responder.js';
import type { NodeConfig } from './config.js';
import { type Counts, type NodeDatapath, OBJECT_DIR, openNodeDatapath, tunnelOf } from './datapath.js';
import {
  type Devices,
  ensureDevices,
  type LinkState,
  planDevices,
  readLinks,
  removeDevices,
  vethsOf,
} from './devices.js';
import {
  advanceMarks,
  decideStates,
  describeDiag,
  type GatewayState,
  type Marks,
  pairForwards,
} from './state.js';
import { type NodeStatus, runDirOf, serveStatus } from './status-socket.js';
import { openTcpPort, type TcpPort } from './tcp-port.js';

const LOOK_MS = 200;
const DEVICES_MS = 1_000;
const ETHERNET_MTU = 1_500;
/** What a machine needs for this; a gateway needs more. */
const NEEDED = ['kernel 6.1 or newer', 'privileges', 'kernel BTF', 'XDP programs', 'XDP links'];

export interface AttachSpec {
  readonly config: NodeConfig;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly version: string;
  /** One line, without its end. */
  readonly say: (line: string) => void;
}

/** Runs until the signal. @throws Fault when it cannot begin; what comes later is told by state. */
export async function attachNode(spec: AttachSpec): Promise<void> {
  requireFeatures(probeFeatures({ bpffs: '/sys/fs/bpf' }).filter(({ feature }) => NEEDED.includes(feature)));
  raisePriority();
  await using stack = new ResourceStack();
  const run = new AttachedNode(spec);
  stack.use(await serveStatus(runDirOf(spec.env), spec.config.node, () => run.status()), 'status socket');
  stack.defer(() => run.close(), 'devices');
  await run.begin(stack);
  await new Promise<void>((resolve) => {
    if (spec.signal.aborted) resolve();
    else spec.signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

class AttachedNode {
  #devices: Devices;
  #datapath: NodeDatapath | undefined;
  #links: ReadonlyMap<string, LinkState> = new Map();
  /** Why the devices are not as they should be; null when they are. */
  #machine: string | null = 'starting';
  #mtu = 0;
  #marks: Marks = [];
  #counts: Counts = { gateways: [], drops: {}, stranger: { address: '::', packets: 0 } };
  #bfd: (BfdResponder | null)[] = [];
  #tcp: TcpPort | undefined;
  #reportTrouble: () => string | null = () => null;
  #states: readonly GatewayState[] = [];
  #said = '';
  #since = new Date();
  #closed = false;
  #placing: Promise<void> = Promise.resolve();

  constructor(private readonly spec: AttachSpec) {
    this.#devices = planDevices(spec.config);
  }

  async begin(stack: ResourceStack): Promise<void> {
    const { config, env, version } = this.spec;
    this.#datapath = stack.use(openNodeDatapath(config, env.DETOUR_DATAPATH_DIR ?? OBJECT_DIR), 'program');
    await this.#lookAtDevices(true);
    this.#bfd = config.gateways.map(({ local, peer }) => {
      if (config.bfd === false || local === undefined || peer === undefined) return null;
      const { minTxMs, minRxMs, multiplier } = config.bfd;
      const timers = {
        desiredMinTxUs: minTxMs * 1000,
        requiredMinRxUs: minRxMs * 1000,
        detectMult: multiplier,
      };
      return stack.use(
        startBfd({ local, peer, timers }, () => this.#look()),
        'BFD',
      );
    });
    if (config.tcp !== undefined)
      this.#tcp = stack.use(openTcpPort(config.underlay.address, config.tcp.port), 'TCP port');
    if (config.report !== undefined) {
      const bytes = () =>
        this.#counts.gateways.reduce((sum, one) => sum + Number(one.inBytes + one.backBytes), 0);
      const reporting = stack.use(
        startReporting({ node: config.node, ...config.report, version, bytes }),
        'reports',
      );
      this.#reportTrouble = () => reporting.trouble();
    }
    const looks = setInterval(() => this.#look(), LOOK_MS);
    const devices = setInterval(() => {
      this.#placing = this.#placing.then(() => this.#lookAtDevices(false));
    }, DEVICES_MS);
    stack.defer(async () => {
      this.#closed = true;
      clearInterval(looks);
      clearInterval(devices);
      await this.#placing;
    }, 'clocks');
    this.#look();
  }

  async close(): Promise<void> {
    await removeDevices(this.spec.config, this.#devices);
    this.spec.say(`${this.spec.config.node}: detached`);
  }

  /** At the start a machine that cannot do it is an error; later it is a state. A missing underlay device is waited for. */
  async #lookAtDevices(first: boolean): Promise<void> {
    if (this.#closed) return;
    try {
      this.#links = await readLinks();
      const { underlay } = this.spec.config;
      const below = this.#links.get(underlay.device);
      this.#machine = whyUnderlay(underlay, below) ?? (await this.#lookAtArms());
      if (below === undefined || this.#machine !== null) return;
      if (!this.#whole(below)) {
        this.#mtu = this.#wantedMtu(below);
        await ensureDevices({
          config: this.spec.config,
          devices: this.#devices,
          mtu: this.#mtu,
          sysctls: this.spec.env.DETOUR_SYSCTL_DIR ?? SYSCTL_DIR,
        });
        this.#links = await readLinks();
      }
      this.#datapath?.place(this.#devices, this.#links, this.#mtu);
      this.#machine = null;
    } catch (error) {
      if (first) throw error;
      this.#machine = error instanceof Fault ? error.detail : describeError(error);
    }
  }

  /** With a router's arms: why one is not ready, else null; its MAC address may be another one now. */
  async #lookAtArms(): Promise<string | null> {
    const { arms } = this.spec.config.pair;
    if (arms === undefined) return null;
    const found = await findArms(arms, this.#links);
    if ('why' in found) return found.why;
    this.#devices = planDevices(this.spec.config, found.arms);
    return null;
  }

  /** Whether all is there that this command made. */
  #whole(below: LinkState): boolean {
    if (this.#mtu !== this.#wantedMtu(below)) return false;
    return vethsOf(this.#devices).every(({ device, far, mac }) => {
      const link = this.#links.get(device);
      return link?.up === true && link.mac === mac && this.#links.has(far);
    });
  }

  /** As configured, or what the underlay leaves; a router's arms may take less. */
  #wantedMtu(below: LinkState): number {
    const { config } = this.spec;
    const arms = (this.#devices.arms ?? []).map(({ device }) => this.#links.get(device)?.mtu ?? 0);
    return Math.min(config.pair.mtu ?? mtuOver(config, below.mtu), ...arms);
  }

  #look(): void {
    if (this.#closed || this.#datapath === undefined) return;
    const { config } = this.spec;
    this.#counts = this.#datapath.read();
    this.#marks = advanceMarks(this.#marks, this.#counts);
    const seen = { counts: this.#counts, marks: this.#marks };
    const machine = this.#machine ?? this.#whyProgram() ?? this.#tcp?.trouble() ?? null;
    this.#tcp?.setOpen(this.#machine === null && pairForwards(seen));
    this.#states = decideStates({
      config,
      machine,
      ...seen,
      bfd: this.#bfd.map((one) => one?.view() ?? null),
      tcpAgoMs: config.gateways.map(({ address }) => this.#tcp?.agoMs(address) ?? null),
      nowNs: process.hrtime.bigint(),
    });
    const { state, why } = this.#verdict();
    const text = state === 'up' ? 'up' : `down: ${why}`;
    if (text.replaceAll(/\d+/g, '') === this.#said.replaceAll(/\d+/g, '')) return; // numbers alone are no news
    this.#said = text;
    this.#since = new Date();
    this.spec.say(`${config.node}: ${text}`);
  }

  #whyProgram(): string | null {
    const there = this.#datapath?.attached() ?? new Map<string, string>();
    const wanted = [
      this.spec.config.underlay.device,
      ...vethsOf(this.#devices).flatMap(({ device, far }) => [device, far]),
    ];
    const missing = wanted.find((device) => !there.has(device));
    return missing === undefined ? null : `the program is not on ${missing}: it is put there again`;
  }

  #verdict(): { state: 'up' | 'down'; why: string } {
    const down = this.#states.filter(({ state }) => state === 'down');
    const why = [...new Set(down.map((one) => one.why))].join('; ');
    return {
      state: this.#states.length > 0 && down.length === 0 ? 'up' : 'down',
      why: why || this.#startingWhy(),
    };
  }

  #startingWhy(): string {
    return this.#states.length === 0 ? (this.#machine ?? 'starting') : '';
  }

  status(): NodeStatus {
    const { config } = this.spec;
    const { state, why } = this.#verdict();
    return {
      node: config.node,
      state,
      why,
      since: this.#since.toISOString(),
      devices: Object.fromEntries(this.#datapath?.attached() ?? []),
      mtu: this.#mtu,
      gateways: this.#states.map((one, i) => {
        const counts = this.#counts.gateways[i];
        const view = this.#bfd[i]?.view();
        const bfd =
          view === undefined
            ? null
            : { state: view.state, diag: describeDiag(view.diag), remote: view.remoteState };
        const number = (value: bigint | undefined) => Number(value ?? 0n);
        return {
          ...one,
          bfd,
          packetsIn: number(counts?.inPackets),
          packetsBack: number(counts?.backPackets),
          bytesIn: number(counts?.inBytes),
          bytesBack: number(counts?.backBytes),
          echoesIn: number(counts?.echoIn),
          echoesBack: number(counts?.echoBack),
          dropped: number(counts?.dropped),
        };
      }),
      drops: this.#counts.drops,
      report: this.#reportTrouble(),
      pid: process.pid,
    };
  }
}

function whyUnderlay(underlay: NodeConfig['underlay'], link: LinkState | undefined): string | null {
  if (link === undefined) return `device ${underlay.device} does not exist`;
  if (!link.up) return `device ${underlay.device} is down: ip link set ${underlay.device} up`;
  if (!link.addresses.includes(underlay.address))
    return `device ${underlay.device} has not the address ${underlay.address}: it has ${link.addresses.join(', ') || 'none'}`;
  return null;
}

/** The largest inner packet that the underlay takes, but no more than Ethernet's unless it is asked for. */
function mtuOver(config: NodeConfig, underlayMtu: number): number {
  const outer = config.underlay.address.includes(':') ? 40 : 20;
  return Math.min(ETHERNET_MTU, underlayMtu - outer - tunnelOf(config).overhead);
}
