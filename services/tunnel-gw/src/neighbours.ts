// SPDX-License-Identifier: Apache-2.0
// What the kernel knows about neighbours, kept current by `ip monitor`: next hops' MACs for hop rows, and the end of a held packet's wait.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Fault } from '@detour/core';
import { askIpBatch, readIp, runTool } from '@detour/runtime';

interface NeighbourRow {
  readonly dst: string;
  readonly dev: string;
  readonly lladdr?: string;
  readonly state?: readonly string[];
}

/**
 * One change that others may care about. `mac` is null when the neighbour failed or was deleted; `changed` is false when there was no
 * MAC before either: a resolution has failed.
 */
export interface NeighbourEvent {
  readonly kind: 'neighbour';
  readonly device: string;
  readonly address: string;
  readonly mac: string | null;
  readonly changed: boolean;
}
export type NetworkEvent = NeighbourEvent | { kind: 'routing'; text: string }; // a route, a rule, a link or an address changed

const USABLE = new Set(['REACHABLE', 'STALE', 'DELAY', 'PROBE', 'PERMANENT', 'NOARP']);

/** A live copy of the neighbour table. `onEvent` is told of every MAC that appears, changes or goes, and of every routing change. */
export class NeighbourWatch implements AsyncDisposable {
  private readonly macs = new Map<string, string>();
  private child: ChildProcess | null = null;
  private stopped = false;

  constructor(
    private readonly onEvent: (event: NetworkEvent) => void,
    private readonly onError: (text: string) => void,
  ) {}

  async start(): Promise<void> {
    this.spawnMonitor();
    const before = new Set(this.macs.keys()); // not empty when the monitor has been started again
    for (const family of ['-4', '-6']) {
      for (const row of await readIp<NeighbourRow>(family, 'neigh', 'show')) {
        before.delete(`${row.dev} ${row.dst}`);
        this.take(row.dev, row.dst, usableMac(row));
      }
    }
    for (const key of before) {
      const [device = '', address = ''] = key.split(' ');
      this.take(device, address, null);
    }
  }

  macOf(device: string, address: string): string | null {
    return this.macs.get(`${device} ${address}`) ?? null;
  }

  /** Asks the kernel to resolve neighbours and to keep them resolved. */
  async keepResolved(
    neighbours: readonly (readonly [device: string, address: string])[],
    onError: (text: string) => void,
  ): Promise<void> {
    const lines = neighbours.map(([device, address]) => `neigh replace ${address} dev ${device} managed`);
    await askIpBatch(lines, (text) => onError(`neighbours cannot be kept resolved: ${text}`));
  }

  /** The same for neighbours that are behind another link now: what the kernel knows of them goes first. */
  async resolveAnew(
    neighbours: readonly (readonly [device: string, address: string])[],
    onError: (text: string) => void,
  ): Promise<void> {
    const lines = neighbours.map(([device, address]) => `neigh del ${address} dev ${device}`);
    await askIpBatch(lines, () => {}); // one that is not known needs no deleting
    await this.keepResolved(neighbours, onError);
  }

  /** Asks the kernel to resolve a neighbour once. */
  async resolveOnce(device: string, address: string): Promise<void> {
    await runTool('ip', ['neigh', 'replace', address, 'dev', device, 'use']);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopped = true;
    this.child?.kill('SIGTERM');
  }

  private spawnMonitor(): void {
    const child = spawn('ip', ['-o', 'monitor', 'neigh', 'route', 'rule', 'link', 'address'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child = child;
    child.on('error', (error) => this.onError(`ip monitor cannot be run: ${error.message}`));
    child.on('exit', (code) => {
      if (this.stopped) return;
      this.onError(`ip monitor ended with code ${code}; starting it again`);
      setTimeout(
        () => !this.stopped && this.start().catch((error: unknown) => this.onError(String(error))),
        200,
      ).unref();
    });
    if (child.stdout === null) throw new Fault('internal', 'ip monitor has no output');
    createInterface({ input: child.stdout }).on('line', (line) => this.readLine(line));
  }

  private readLine(line: string): void {
    const event = parseMonitorLine(line);
    if (event === null) return;
    if (event.kind === 'routing') this.onEvent(event);
    else if (event.mac !== undefined) this.take(event.device, event.address, event.mac);
  }

  private take(device: string, address: string, mac: string | null): void {
    const key = `${device} ${address}`;
    const before = this.macs.get(key) ?? null;
    if (mac === null) this.macs.delete(key);
    else this.macs.set(key, mac);
    const changed = before !== mac;
    if (changed || mac === null) this.onEvent({ kind: 'neighbour', device, address, mac, changed });
  }
}

function usableMac(row: NeighbourRow): string | null {
  return row.lladdr !== undefined && (row.state ?? []).some((state) => USABLE.has(state)) ? row.lladdr : null;
}

/**
 * One line of `ip -o monitor`. Neighbour lines are `[Deleted ]ADDRESS dev DEVICE [lladdr MAC] [flags] STATE`; mac is undefined while a
 * neighbour is being resolved (nothing is known yet). Everything else is a routing change.
 */
export function parseMonitorLine(
  line: string,
):
  | { kind: 'routing'; text: string }
  | { kind: 'neighbour'; device: string; address: string; mac: string | null | undefined }
  | null {
  const text = line.trim();
  if (text === '') return null;
  const match = /^(Deleted )?([0-9a-f:.]+) dev (\S+)(?: lladdr ([0-9a-f:]{17}))?(?: .*?)?\s([A-Z]+)$/.exec(
    text,
  );
  if (match === null || (match[5] !== undefined && !NEIGHBOUR_STATES.has(match[5])))
    return { kind: 'routing', text };
  const [, deleted, address = '', device = '', lladdr, state = ''] = match;
  if (deleted !== undefined || state === 'FAILED') return { kind: 'neighbour', device, address, mac: null };
  if (lladdr !== undefined && USABLE.has(state)) return { kind: 'neighbour', device, address, mac: lladdr };
  return { kind: 'neighbour', device, address, mac: undefined };
}

const NEIGHBOUR_STATES = new Set([...USABLE, 'INCOMPLETE', 'FAILED', 'NONE']);
