// SPDX-License-Identifier: Apache-2.0
// The lanes, built and running: sends packets along one of them and says what arrived.
import { mkdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type BpfObject,
  type BpfProgram,
  openObject,
  perCpuValues,
  pinProgram,
  programInfo,
} from '@detour/bpf';
import { frontRows } from '@detour/contracts';
import { Fault } from '@detour/core';
import { createLab, type Lab } from '@detour/lab';
import { buildBenchObject, EDGE_OBJECT } from '../bpf-objects.js';
import { cpuSeconds, ksoftirqdPid, processSeconds } from '../cpu.js';
import { joinArms } from './armed-nodes.js';
import { armPrograms } from './arms.js';
import { setBpfStats } from './bpf-stats.js';
import { publishVrfs } from './crowd.js';
import { type Devices, publishTables } from './edge-tables.js';
import { type Generator, startGenerator } from './generator.js';
import { GATEWAY_MAC, type LaneName, laneDevice, laneLab, REFLECTOR } from './lanes.js';
import { publishStations } from './stations.js';

export interface TripOptions {
  readonly lane: LaneName;
  readonly flows: number;
  /** Source address of flow 0 as a number; default that of what is steered to the reflector. */
  readonly base?: number;
  /** Tags that packets have in turn, flow by flow; default none. */
  readonly vlans?: { readonly first: number; readonly count: number };
  /** How long packets are sent and counted; default 500. */
  readonly ms?: number;
  /** Whether the kernel is to time programs meanwhile (kernel.bpf_stats_enabled), which slows all of them; default not. */
  readonly timed?: boolean;
  /** Sent before, and not counted; default twice the flows, at least 20,000. */
  readonly warmPackets?: number;
}

/** What was counted while packets went along a lane. */
export interface Trip {
  readonly sent: number;
  readonly arrived: number;
  readonly seconds: number;
  /** Arrived per second. */
  readonly pps: number;
  /** Of those sent, 0 to 1. */
  readonly loss: number;
  /** CPUs in use by the generator's process, with what its packets set off in its context. */
  readonly generatorCpu: number;
  /** CPUs in use by the kernel thread that takes over when packet work piles up. */
  readonly ksoftirqdCpu: number;
  /** CPUs that others took from the generator's: noise. */
  readonly othersCpu: number;
}

export interface Track extends AsyncDisposable {
  readonly lab: Lab;
  readonly edge: BpfObject;
  readonly forwarder: BpfProgram;
  readonly empty: BpfProgram;
  trip(options: TripOptions): Promise<Trip>;
  /** ifindexes of a namespace's devices. */
  devices(ns: string): Promise<Devices>;
}

/** Builds the lab, attaches every program, publishes the gateway's tables; flows are the caller's to record. */
export async function openTrack(options: {
  readonly name: string;
  readonly flowCapacity: number;
}): Promise<Track> {
  const sink = openObject(await buildBenchObject('sink'));
  const forwarder = openObject(await buildBenchObject('forwarder'));
  const reflector = openObject(await buildBenchObject('reflector'));
  const arms = openObject(await buildBenchObject('arms'));
  const maxEntries = {
    flows: options.flowCapacity,
    embryos: 65_536,
    flow_counters: options.flowCapacity + 65_536,
    flow_front: frontRows(options.flowCapacity),
  };
  const edge = openObject(EDGE_OBJECT, { maxEntries });
  const objects = [sink, forwarder, reflector, arms, edge];
  const lab = await createLab(laneLab(), { name: options.name });
  const close = async (): Promise<void> => {
    await lab.close();
    for (const object of objects) object.close();
  };
  try {
    const programs = {
      sink: sink.program('bench_sink'),
      pass: sink.program('bench_pass'),
      drop: sink.program('bench_drop'),
      forward: forwarder.program('bench_forward'),
      reflect: reflector.program('bench_reflect'),
      reflectOuter: reflector.program('bench_reflect_outer'),
      bump: arms.program('bench_bump'),
      router: arms.program('bench_router'),
      edge: edge.program('detour_edge'),
    };
    await attachAll(lab, programs);
    const generator = await startGenerator(lab, 'gen');
    const devices = (ns: string): Promise<Devices> => readDevices(lab, ns);
    const arrived = (): number => countArrived(sink);
    const timedRuns = (): bigint =>
      programInfo(programs.sink.fd).runCount + programInfo(programs.drop.fd).runCount;
    const own = await devices('steer');
    publishTables(edge, own);
    publishStations(edge, own);
    publishVrfs(edge, own);
    joinArms(arms, await devices('node'));
    const leaving = await devices('gen');
    return {
      lab,
      edge,
      forwarder: programs.forward,
      empty: programs.drop,
      devices,
      trip: (trip) => makeTimedTrip({ generator, leaving, arrived, timedRuns }, trip),
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

type ProgramName =
  | 'sink'
  | 'pass'
  | 'drop'
  | 'forward'
  | 'reflect'
  | 'reflectOuter'
  | 'edge'
  | 'bump'
  | 'router';

const ARMS = armPrograms();
/** Device → program, by namespace: the whole of what carries an XDP program. */
const ATTACHED: Readonly<Record<string, Readonly<Record<string, ProgramName>>>> = {
  gen: { [laneDevice('reflector')]: 'sink' },
  sink: {
    's-empty': 'drop',
    ...Object.fromEntries(
      ['none', 'forwarder', 'kernel', 'way', 'steer'].map((lane) => [`s-${lane}`, 'sink'] as const),
    ),
  },
  node: {
    ...{ 'n-alone': 'reflect', 'n-way': 'reflect', 'n-steer': 'reflect', 'o-steer': 'reflectOuter' },
    ...ARMS.node,
  },
  forwarder: { in0: 'forward' },
  kernel: { in0: 'pass' },
  way: { in0: 'pass', ul0: 'pass', ul1: 'pass' },
  steer: { in0: 'edge', ul0: 'edge', ul1: 'edge', ul2: 'edge', in1: 'edge', out0: 'edge', ...ARMS.gateway },
  'fw-steer': { eth0: 'pass' },
};

async function attachAll(lab: Lab, programs: Readonly<Record<ProgramName, BpfProgram>>): Promise<void> {
  const pins = `${lab.pinPrefix}programs`;
  mkdirSync(pins, { recursive: true });
  for (const [name, program] of Object.entries(programs)) pinProgram(program, `${pins}/${name}`);
  for (const [ns, devices] of Object.entries(ATTACHED)) {
    const lines = Object.entries(devices).map(
      ([device, program]) => `link set dev ${device} xdpdrv pinned ${pins}/${program}`,
    );
    await lab.exec(ns, ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }
}

async function readDevices(lab: Lab, ns: string): Promise<Devices> {
  const { stdout } = await lab.exec(ns, ['ip', '-j', 'link']);
  const links = JSON.parse(stdout) as { readonly ifname: string; readonly ifindex: number }[];
  return new Map(links.map(({ ifname, ifindex }) => [ifname, ifindex]));
}

function countArrived(sink: BpfObject): number {
  const map = sink.map('arrived');
  const stored = map.lookup(new Uint8Array(4)) ?? new Uint8Array(map.storedSize);
  return perCpuValues(map, stored).reduce(
    (sum, value) => sum + Number(new DataView(value.buffer, value.byteOffset).getBigUint64(0, true)),
    0,
  );
}

interface Ends {
  readonly generator: Generator;
  readonly leaving: Devices;
  arrived(): number;
  /** Runs of the programs at the end of lanes that the kernel has timed. */
  timedRuns(): bigint;
}

const WARM_PACKETS = 20_000;
const LEAST_PACKETS = 640;
const ATTEMPTS = 20;
const PAUSE_MS = 200;

/** Somebody else may have the kernel time programs, or stop it: such a trip is made again. */
async function makeTimedTrip(ends: Ends, options: TripOptions): Promise<Trip> {
  const { timed = false } = options;
  for (let left = ATTEMPTS; left > 0; left--) {
    setBpfStats(timed);
    const before = ends.timedRuns();
    const trip = await makeTrip(ends, options);
    const runs = Number(ends.timedRuns() - before);
    if (timed ? runs >= trip.arrived : runs === 0) return trip;
    await delay(PAUSE_MS);
  }
  throw new Fault(
    'conflict',
    `kernel.bpf_stats_enabled does not stay ${timed ? 1 : 0}: another process changes it; run the benchmark when that has ended`,
  );
}

async function makeTrip({ generator, leaving, arrived }: Ends, options: TripOptions): Promise<Trip> {
  const { lane, flows, base = REFLECTOR.base, ms = 500 } = options;
  const stream = {
    ifindex: leaving.get(laneDevice(lane)) ?? 0,
    dmac: GATEWAY_MAC,
    flows,
    base,
    vlans: options.vlans ?? { first: 0, count: 0 },
  };
  const warmPackets = options.warmPackets ?? Math.max(WARM_PACKETS, 2 * flows);
  const warm = await generator.send({ ...stream, packets: warmPackets });
  const packets = Math.max(LEAST_PACKETS, Math.round((warm.sent / warm.seconds) * (ms / 1000)));
  const softirqd = ksoftirqdPid(generator.cpu);
  const before = {
    arrived: await settled(arrived),
    softirqd: processSeconds(softirqd),
    cpu: cpuSeconds(generator.cpu),
  };
  const { sent, seconds, cpuSeconds: own } = await generator.send({ ...stream, packets });
  const cpu = cpuSeconds(generator.cpu);
  const kernel = processSeconds(softirqd) - before.softirqd;
  const got = (await settled(arrived)) - before.arrived;
  const all = cpu.busy + cpu.stolen - before.cpu.busy - before.cpu.stolen;
  return {
    sent,
    arrived: got,
    seconds,
    pps: got / seconds,
    loss: 1 - got / sent,
    generatorCpu: own / seconds,
    ksoftirqdCpu: kernel / seconds,
    othersCpu: Math.max(0, all - own - kernel) / seconds,
  };
}

/** The counter once nothing arrives any more. */
async function settled(arrived: () => number): Promise<number> {
  let last = arrived();
  for (let quiet = 0, left = 100; quiet < 2 && left > 0; left--) {
    await delay(2);
    const now = arrived();
    quiet = now === last ? quiet + 1 : 0;
    last = now;
  }
  return last;
}
