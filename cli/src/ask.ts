// SPDX-License-Identifier: Apache-2.0
/** Questions to services over gRPC: one answer or a stream of rows, always with a deadline, failures as Faults. */
import { Fault, type FaultCode } from '@detour/core';
import { type CallOptions, type Client, type ClientReadableStream, type ClientUnaryCall, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { Cluster, Instance } from './cluster.js';

/** Longest wait for one answer. */
const ANSWER_MS = 3_000;

const FAULT_OF_STATUS: Partial<Record<status, FaultCode>> = {
  [status.UNAVAILABLE]: 'unavailable',
  [status.DEADLINE_EXCEEDED]: 'timeout',
  [status.NOT_FOUND]: 'not_found',
  [status.INVALID_ARGUMENT]: 'invalid',
  [status.FAILED_PRECONDITION]: 'refused',
  [status.RESOURCE_EXHAUSTED]: 'exhausted',
  [status.PERMISSION_DENIED]: 'permission',
  [status.UNIMPLEMENTED]: 'missing_feature',
};

function faultOf(who: string, error: ServiceError): Fault {
  const code = FAULT_OF_STATUS[error.code] ?? 'internal';
  if (code === 'unavailable') return new Fault(code, `${who} does not answer: look whether it runs`, error);
  if (code === 'timeout') return new Fault(code, `${who} did not answer within ${ANSWER_MS} ms`, error);
  return new Fault(code, `${who}: ${error.details}`, error);
}

/** A generated client's constructor. */
export type ClientClass<C extends Client> = new (address: string, creds: ReturnType<typeof credentials.createInsecure>) => C;

type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  done: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** Asks one question. @throws Fault */
export function askOnce<Request, Response>(
  who: string,
  call: Unary<Request, Response>,
  request: Request,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    call(request, new Metadata(), { deadline: Date.now() + ANSWER_MS }, (error, response) => {
      if (error === null) resolve(response);
      else reject(faultOf(who, error));
    });
  });
}

/** Reads a stream of rows to its end. @throws Fault */
export async function askRows<Row>(who: string, open: (options: Partial<CallOptions>) => ClientReadableStream<Row>): Promise<Row[]> {
  const rows: Row[] = [];
  try {
    for await (const row of open({ deadline: Date.now() + 10 * ANSWER_MS })) rows.push(row as Row);
  } catch (error) {
    if (error instanceof Error && 'code' in error && 'details' in error) throw faultOf(who, error as ServiceError);
    throw error;
  }
  return rows;
}

/** Opens a client for as long as `use` runs. */
export async function withClient<C extends Client, T>(
  Class: ClientClass<C>,
  address: string,
  use: (client: C) => Promise<T>,
): Promise<T> {
  const client = new Class(address, credentials.createInsecure());
  try {
    return await use(client);
  } finally {
    client.close();
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
  use: (client: C, who: string) => Promise<T>,
): Promise<Answers<T>> {
  const asked = await Promise.all(
    instances.map(async (instance) => {
      const who = `${instance.service} ${instance.gateway === '' ? instance.id : `of ${instance.gateway}`} at ${instance.address}`;
      try {
        return { instance, answer: await withClient(Class, instance.address, (client) => use(client, who)) };
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
export function instancesAt(cluster: Cluster, service: 'tunnel-gw' | 'bfd', gateway: string | undefined): Instance[] {
  const all = cluster.instances(service);
  if (gateway === undefined) return all;
  const found = all.filter((instance) => instance.gateway === gateway);
  if (found.length > 0) return found;
  const known = [...new Set(all.map((instance) => instance.gateway))].sort().join(', ');
  const hint = known === '' ? 'none is registered at all' : `registered are ${known}`;
  throw new Fault('not_found', `no ${service} of gateway "${gateway}" is registered: ${hint}`);
}
