// SPDX-License-Identifier: Apache-2.0
/**
 * The traffic agent, a program of its own that runs inside a namespace.
 * In: requests of protocol.ts on standard input. Out: their responses on standard output. It ends with its input.
 */
import { createInterface } from 'node:readline';
import { httpGet } from './http-get.js';
import type { AgentRequest, AgentResponse } from './protocol.js';
import { closeGroup, codeOf, openGroup, reportGroup, type TcpGroup } from './tcp-flows.js';
import { startUdp, type UdpGroup } from './udp-stream.js';

const tcpGroups = new Map<number, TcpGroup>();
const udpGroups = new Map<number, UdpGroup>();
let groups = 0;

async function perform(request: AgentRequest): Promise<unknown> {
  switch (request.op) {
    case 'tcp-open': {
      const { group, opened } = await openGroup(request);
      groups += 1;
      tcpGroups.set(groups, group);
      return { group: groups, ...opened };
    }
    case 'tcp-report':
      return reportGroup(take(tcpGroups, request.group));
    case 'tcp-close': {
      const group = take(tcpGroups, request.group);
      tcpGroups.delete(request.group);
      return closeGroup(group, request.how);
    }
    case 'http-get':
      return httpGet(request);
    case 'udp-start': {
      const group = await startUdp(request);
      groups += 1;
      udpGroups.set(groups, group);
      return { group: groups, localPorts: group.localPorts };
    }
    case 'udp-stop': {
      const group = take(udpGroups, request.group);
      udpGroups.delete(request.group);
      return group.stop(request.settleMs);
    }
  }
}

function take<T>(all: Map<number, T>, group: number): T {
  const found = all.get(group);
  if (found === undefined) throw new Error(`no group ${group}: it was closed already`);
  return found;
}

async function answer(line: string): Promise<void> {
  const { id, ...request } = JSON.parse(line) as { id: number } & AgentRequest;
  let response: AgentResponse;
  try {
    response = { id, ok: true, value: (await perform(request as AgentRequest)) ?? null };
  } catch (error) {
    response = { id, ok: false, error: error instanceof Error ? error.message : codeOf(error) };
  }
  process.stdout.write(`${JSON.stringify(response)}\n`);
}

const input = createInterface({ input: process.stdin });
input.on('line', (line) => void answer(line));
input.on('close', () => {
  // Nobody is left to ask: drop every connection, so that the process ends.
  for (const group of tcpGroups.values()) void closeGroup(group, 'rst');
  for (const group of udpGroups.values()) void group.stop(0);
});
