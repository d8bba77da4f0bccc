// SPDX-License-Identifier: Apache-2.0
/** Questions to services: every instance of one at once, each with a deadline; who gave no answer is named. */
import { Fault } from '@detour/core';
import { type ClientClass, callUnary, connectClient, readStream } from '@detour/rpc';
import type { Client, ClientReadableStream } from '@grpc/grpc-js';
import type { Cluster, Instance } from './cluster.js';

/** Longest wait for one answer, and for a stream of rows: a gateway looks at millions of flows for many seconds. */
const ANSWER_MS = 3_000;
const ROWS_MS = 120_000;

type Unary<Request, Response> = Parameters<typeof callUnary<Request, Response>>[0];

/** Asks one question. @throws Fault */
export function askOnce<Request, Response>(
  method: Unary<Request, Response>,
  request: Request,
): Promise<Response> {
  return callUnary(method, request, { deadlineMs: ANSWER_MS });
}

/** Reads a stream of rows to its end. @throws Fault */
export async function askRows<Row>(call: ClientReadableStream<Row>): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of readStream(call, { signal: AbortSignal.timeout(ROWS_MS) })) rows.push(row);
  return rows;
}

/** An instance in a sentence. */
export function describeInstance({ service, gateway, id, address }: Instance): string {
  return `${service} ${gateway === '' ? id : `of ${gateway}`} at ${address}`;
}

/** Asks one instance; a failure names it. @throws Fault */
export async function askInstance<C extends Client, T>(
  instance: Instance,
  Class: ClientClass<C>,
  use: (client: C) => Promise<T>,
): Promise<T> {
  using connected = connectClient(Class, instance.address);
  try {
    return await use(connected.client);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const hint =
      error.code === 'unavailable' || error.code === 'timeout'
        ? ' does not answer: look whether it runs'
        : '';
    throw new Fault(error.code, `${describeInstance(instance)}${hint} (${error.detail})`, error);
  }
}

/** Answers of several instances, and those that gave none. */
export interface Answers<T> {
  readonly answers: readonly { readonly instance: Instance; readonly answer: T }[];
  /** One sentence for each instance that should have answered. */
  readonly missing: readonly string[];
}

/** Asks every instance, all at once; one that fails is named in `missing`. */
export async function askAll<C extends Client, T>(
  instances: readonly Instance[],
  Class: ClientClass<C>,
  use: (client: C) => Promise<T>,
): Promise<Answers<T>> {
  const asked = await Promise.all(
    instances.map(async (instance) => {
      try {
        return { instance, answer: await askInstance(instance, Class, use) };
      } catch (error) {
        if (error instanceof Fault) return error.detail;
        throw error;
      }
    }),
  );
  return {
    answers: asked.flatMap((one) => (typeof one === 'string' ? [] : [one])),
    missing: asked.flatMap((one) => (typeof one === 'string' ? [one] : [])),
  };
}

/** The instances of a service on gateways; only that of `gateway` where it is given. @throws Fault `not_found` */
export function instancesAt(
  cluster: Cluster,
  service: 'tunnel-gw' | 'bfd',
  gateway: string | undefined,
): Instance[] {
  const all = cluster.instances(service);
  if (gateway === undefined) return all;
  const found = all.filter((instance) => instance.gateway === gateway);
  if (found.length > 0) return found;
  const known = [...new Set(all.map((instance) => instance.gateway))].sort().join(', ');
  const hint = known === '' ? 'none is registered at all' : `registered are ${known}`;
  throw new Fault('not_found', `no ${service} of gateway "${gateway}" is registered: ${hint}`);
}
