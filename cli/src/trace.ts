// SPDX-License-Identifier: Apache-2.0
/** `detour trace`: the way that a packet would take through a gateway, from the tables that are live there, step by step. */
import { GatewayClient, type TraceRequest, type TraceResponse } from '@detour/contracts';
import { Fault, parseAddress } from '@detour/core';
import { nearestWord, PROTOCOL_NUMBERS } from '@detour/intent';
import { askInstance, askOnce, instancesAt } from './ask.js';
import type { Cluster } from './cluster.js';
import { type Column, renderTable, type View } from './render.js';

/** A packet as the flags describe it. */
export interface TraceOptions {
  readonly gateway?: string;
  readonly port: string;
  readonly src: string;
  readonly dst: string;
  readonly proto: string;
  readonly sport: number;
  readonly dport: number;
  readonly syn: boolean;
  readonly length: number;
  readonly ttl: number;
}

function addressOf(flag: string, text: string): Uint8Array {
  const bytes = parseAddress(text);
  if (bytes === null)
    throw new Fault('invalid', `${flag} ${text} is no IP address: give one such as 10.0.0.1 or 2001:db8::1`);
  return bytes;
}

function protocolOf(text: string): number {
  const names = Object.entries(PROTOCOL_NUMBERS);
  const known = names.find(([name]) => name === text)?.[1];
  if (known !== undefined) return known;
  if (/^\d{1,3}$/.test(text) && Number(text) <= 255) return Number(text);
  const nearest = nearestWord(
    text,
    names.map(([name]) => name),
  );
  const hint =
    nearest === undefined
      ? `give one of ${names.map(([name]) => name).join(', ')} or a number`
      : `did you mean ${nearest}?`;
  throw new Fault('invalid', `--proto ${text} is no protocol: ${hint}`);
}

/** The request that the flags make. @throws Fault `invalid` */
export function traceRequestOf(options: TraceOptions): TraceRequest {
  const src = addressOf('--src', options.src);
  const dst = addressOf('--dst', options.dst);
  if (options.src.includes(':') !== options.dst.includes(':'))
    throw new Fault(
      'invalid',
      `--src ${options.src} and --dst ${options.dst} are of two address families: give two of one`,
    );
  const proto = protocolOf(options.proto);
  return {
    port: options.port,
    tuple: { vrf: 0, src, dst, sport: options.sport, dport: options.dport, proto },
    syn: options.syn && proto === PROTOCOL_NUMBERS.tcp,
    length: options.length,
    ttl: options.ttl,
  };
}

const STEP_COLUMNS: readonly Column<TraceResponse['steps'][number]>[] = [
  ['STEP', (row) => row.step],
  ['FOUND', (row) => row.found],
  ['WHY', (row) => row.why],
];

/** The last line of a trace: what becomes of the packet. */
export function verdictText({ verdict, reason, egress, node }: TraceResponse): string {
  const parts = [
    verdict,
    reason === '' ? '' : `(${reason})`,
    node === '' ? '' : `to node ${node}`,
    egress === '' ? '' : `by ${egress}`,
  ];
  return parts.filter((part) => part !== '').join(' ');
}

/** The only gateway there is, or the one that was named. */
function gatewayInstance(cluster: Cluster, gateway: string | undefined) {
  const instances = instancesAt(cluster, 'tunnel-gw', gateway);
  const [first] = instances;
  if (first === undefined)
    throw new Fault('unavailable', 'no tunnel-gw is registered: start one, see detour status');
  if (gateway === undefined && new Set(instances.map((one) => one.gateway)).size > 1) {
    const names = instances
      .map((one) => one.gateway)
      .sort()
      .join(', ');
    throw new Fault('invalid', `there are several gateways: give --gateway one of ${names}`);
  }
  return first;
}

/** Asks the gateway. @throws Fault */
export async function tracePacket(cluster: Cluster, options: TraceOptions): Promise<View> {
  const request = traceRequestOf(options);
  const instance = gatewayInstance(cluster, options.gateway);
  const answer = await askInstance(instance, GatewayClient, (client) =>
    askOnce(client.trace.bind(client), request),
  );
  const table = `${renderTable(STEP_COLUMNS, answer.steps, 'no step was reported')}\nverdict: ${verdictText(answer)}\n`;
  return { data: { gateway: instance.gateway, ...answer }, table };
}
