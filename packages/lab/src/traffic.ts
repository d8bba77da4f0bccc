// SPDX-License-Identifier: Apache-2.0
/** Traffic from inside a namespace: many TCP connections, numbered UDP streams, HTTP, through an agent process there. */
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import type {
  AgentRequest,
  AgentResponse,
  Endpoint,
  HttpGet,
  HttpResult,
  TcpOpen,
  TcpOpened,
  TcpReport,
  UdpReport,
  UdpStart,
  UdpStarted,
} from './agents/protocol.js';
import type { Lab } from './lab.js';
import { promptly } from './process.js';

export interface TcpConnections extends Omit<TcpOpened, 'group'> {
  report(): Promise<TcpReport>;
  close(how?: 'fin' | 'rst'): Promise<void>;
}

export interface UdpStream {
  /** Local address and port of each flow. */
  readonly localPorts: readonly Endpoint[];
  /** Stops sending, waits `settleMs` (default 300) for what is under way, and reports. */
  stop(settleMs?: number): Promise<UdpReport>;
}

export interface TrafficAgent extends AsyncDisposable {
  /**
   * Opens TCP connections to an echo server. One agent holds at most the machine's open-files limit (`ulimit -n`):
   * start several for more.
   */
  openTcp(options: TcpOpen): Promise<TcpConnections>;
  /** A numbered stream to a UDP echo server. */
  startUdp(options: UdpStart): Promise<UdpStream>;
  httpGet(options: HttpGet): Promise<HttpResult>;
  close(): Promise<void>;
}

/** A running agent, however it was started. */
export interface AgentProcess {
  /** Completes the sentence "traffic in". */
  readonly where: string;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly exited: Promise<unknown>;
  isRunning(): boolean;
  /** What it said last, for the message about its end. */
  lastWords(): string;
  kill(): Promise<void>;
}

/** @throws Fault when the agent cannot be started. */
export function startTraffic(lab: Lab, ns: string): TrafficAgent {
  const main = fileURLToPath(new URL('../dist/agents/traffic.js', import.meta.url));
  const agent = lab.spawn(ns, [...promptly, process.execPath, main], { name: 'traffic', stdio: 'pipe' });
  const { stdin, stdout } = agent.child;
  if (stdin === null || stdout === null) throw new Fault('internal', 'the traffic agent has no pipes');
  const lastWords = (): string => tail(agent.logFile, agent.log);
  const { exited, isRunning, kill } = agent;
  return driveTraffic({ where: ns, stdin, stdout, exited, isRunning, lastWords, kill });
}

/** Asks an agent that runs already. */
export function driveTraffic(agent: AgentProcess): TrafficAgent {
  const { stdin, stdout, where } = agent;
  const waiting = new Map<number, (response: AgentResponse) => void>();
  let ids = 0;
  createInterface({ input: stdout }).on('line', (line) => {
    const response = JSON.parse(line) as AgentResponse;
    waiting.get(response.id)?.(response);
    waiting.delete(response.id);
  });
  void agent.exited.then(() => {
    for (const [id, done] of waiting) done({ id, ok: false, error: `the agent ended: ${agent.lastWords()}` });
    waiting.clear();
  });
  stdin.on('error', () => undefined); // the agent's end is reported by `exited`

  const ask = async <T>(request: AgentRequest): Promise<T> => {
    if (!agent.isRunning())
      throw new Fault('unavailable', `traffic in ${where}: the agent ended: ${agent.lastWords()}`);
    ids += 1;
    const id = ids;
    const response = await new Promise<AgentResponse>((resolve) => {
      waiting.set(id, resolve);
      stdin.write(`${JSON.stringify({ id, ...request })}\n`);
    });
    if (!response.ok) throw new Fault('internal', `traffic in ${where}: ${request.op}: ${response.error}`);
    return response.value as T;
  };
  const close = (): Promise<void> => agent.kill();
  return {
    async openTcp(options) {
      const { group, opened, failed } = await ask<TcpOpened>({ op: 'tcp-open', ...options });
      return {
        opened,
        failed,
        report: () => ask<TcpReport>({ op: 'tcp-report', group }),
        close: (how = 'fin') => ask({ op: 'tcp-close', group, how }),
      };
    },
    async startUdp(options) {
      const { group, localPorts } = await ask<UdpStarted>({ op: 'udp-start', ...options });
      return { localPorts, stop: (settleMs = 300) => ask<UdpReport>({ op: 'udp-stop', group, settleMs }) };
    },
    httpGet: (options) => ask<HttpResult>({ op: 'http-get', ...options }),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function tail(logFile: string, log: () => string): string {
  return log().trim().split('\n').slice(-5).join(' | ') || logFile;
}
