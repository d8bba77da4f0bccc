// SPDX-License-Identifier: Apache-2.0
// A gRPC server on a TCP address or a unix socket.
import { mkdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { describeError, Fault, type Log } from '@detour/core';
import {
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  logVerbosity,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  setLogVerbosity,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { SERVER_OPTIONS } from './channel-options.js';
import { traceServer } from './trace-context.js';

export interface ServiceImplementation {
  readonly definition: ServiceDefinition;
  readonly handlers: UntypedServiceImplementation;
}

/** The handler that a method of a generated service definition needs. */
export type HandlerOf<Method> = Method extends {
  readonly requestSerialize: (value: infer Request) => Buffer;
  readonly responseSerialize: (value: infer Response) => Buffer;
  readonly requestStream: infer RequestStream;
  readonly responseStream: infer ResponseStream;
}
  ? RequestStream extends true
    ? ResponseStream extends true
      ? handleBidiStreamingCall<Request, Response>
      : handleClientStreamingCall<Request, Response>
    : ResponseStream extends true
      ? handleServerStreamingCall<Request, Response>
      : handleUnaryCall<Request, Response>
  : never;

/** A service's definition with a handler for each of its methods; the compiler checks that none is missing or of the wrong kind. */
export function implement<D extends ServiceDefinition>(
  definition: D,
  handlers: { readonly [M in keyof D]: HandlerOf<D[M]> },
): ServiceImplementation {
  return { definition, handlers: handlers as unknown as UntypedServiceImplementation };
}

export interface ServeSpec {
  /** `host:port` (port 0: any free one) or `unix:/path`. */
  readonly address: string;
  readonly services: readonly ServiceImplementation[];
  readonly log: Log;
}

export interface RpcServer extends AsyncDisposable {
  /** What clients connect to: the real port, or the unix path. */
  readonly address: string;
}

/** How long calls may take to end by themselves when the server closes. */
const GRACE_MS = 300;

/** @throws Fault `unavailable` when the address is taken or not of this machine. */
export async function serve(spec: ServeSpec): Promise<RpcServer> {
  const path = spec.address.startsWith('unix:') ? spec.address.slice('unix:'.length) : null;
  if (path !== null) await freeSocketPath(path);
  setLogVerbosity(logVerbosity.NONE); // what goes wrong comes back as an error; a second log on stderr says nothing more
  const server = new Server({ ...SERVER_OPTIONS, interceptors: [traceServer] });
  for (const { definition, handlers } of spec.services) server.addService(definition, handlers);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(spec.address, ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) return resolve(bound);
      const why = /EADDRINUSE/.test(error.message) ? 'the port is taken' : describeError(error);
      const detail = `cannot serve gRPC on ${spec.address}: ${why}; give a free address of this machine (DETOUR_LISTEN)`;
      reject(new Fault('unavailable', detail, error));
    });
  });
  const address =
    path === null ? `${spec.address.slice(0, spec.address.lastIndexOf(':'))}:${port}` : spec.address;
  spec.log.info({ address }, 'serving gRPC');
  return {
    address,
    [Symbol.asyncDispose]: async () => {
      const force = setTimeout(() => server.forceShutdown(), GRACE_MS);
      await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      clearTimeout(force);
      if (path !== null) await rm(path, { force: true });
    },
  };
}

/** Removes a socket that nobody listens on any more; makes its directory. */
async function freeSocketPath(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const taken = await new Promise<boolean>((resolve) => {
    const probe = connect({ path });
    probe.on('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.on('error', () => resolve(false));
  });
  if (taken) {
    throw new Fault(
      'unavailable',
      `cannot serve gRPC on unix:${path}: another process listens there; stop it first`,
    );
  }
  await rm(path, { force: true });
}
