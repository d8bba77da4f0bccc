// SPDX-License-Identifier: Apache-2.0
// Clients: one channel each, unary calls as promises with deadlines, server streams as async iterables.
import { Fault } from '@detour/core';
import {
  type CallOptions,
  type ChannelCredentials,
  type Client,
  type ClientDuplexStream,
  type ClientOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { CLIENT_OPTIONS } from './channel-options.js';
import { faultOfError } from './fault-status.js';
import { traceClient } from './trace-context.js';

export type ClientClass<C extends Client> = new (
  address: string,
  channelCredentials: ChannelCredentials,
  options?: Partial<ClientOptions>,
) => C;

export interface ConnectedClient<C extends Client> extends Disposable {
  readonly client: C;
}

/** A client of `address` (`host:port` or `unix:/path`); connects when it is first used, and again whenever it must. */
export function connectClient<C extends Client>(Class: ClientClass<C>, address: string): ConnectedClient<C> {
  const client = new Class(address, credentials.createInsecure(), {
    ...CLIENT_OPTIONS,
    interceptors: [traceClient],
  });
  return { client, [Symbol.dispose]: () => client.close() };
}

export interface CallSpec {
  readonly deadlineMs: number;
  readonly signal?: AbortSignal;
}

/**
 * A unary call: `callUnary(client.trace.bind(client), request, { deadlineMs: 2_000 })`.
 * @throws Fault with the server's code, `unavailable` or `timeout`
 */
export function callUnary<Request, Response>(
  method: (
    request: Request,
    metadata: Metadata,
    options: Partial<CallOptions>,
    callback: (error: ServiceError | null, response: Response) => void,
  ) => ClientUnaryCall,
  request: Request,
  spec: CallSpec,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    if (spec.signal?.aborted)
      return reject(new Fault('unavailable', 'the call was given up', spec.signal.reason));
    const options = { deadline: Date.now() + spec.deadlineMs };
    const call = method(request, new Metadata(), options, (error, response) => {
      spec.signal?.removeEventListener('abort', cancel);
      if (error === null) resolve(response);
      else reject(faultOfError('the call failed', error));
    });
    const cancel = () => call.cancel();
    spec.signal?.addEventListener('abort', cancel);
  });
}

/** The messages of a server stream; breaking off cancels it. @throws Fault as callUnary */
export async function* readStream<Response>(
  call: ClientReadableStream<Response>,
  spec: { readonly signal?: AbortSignal } = {},
): AsyncGenerator<Response, void, undefined> {
  const cancel = () => call.cancel();
  call.on('error', () => {}); // the iteration throws it; a late one has no other listener
  spec.signal?.addEventListener('abort', cancel);
  if (spec.signal?.aborted) cancel();
  try {
    for await (const message of call) yield message as Response;
  } catch (error) {
    throw faultOfError('the stream failed', error);
  } finally {
    spec.signal?.removeEventListener('abort', cancel);
    call.cancel();
  }
}

/**
 * Calls `onMessage` in the very turn in which a message of a server stream came; reading it as an iterable takes some turns more.
 * Resolves when the server ends the stream. What `onMessage` throws ends it too. @throws Fault as callUnary
 */
export function followStream<Response>(
  call: ClientReadableStream<Response>,
  onMessage: (message: Response) => void,
  spec: { readonly signal: AbortSignal },
): Promise<void> {
  const cancel = () => call.cancel();
  spec.signal.addEventListener('abort', cancel);
  if (spec.signal.aborted) cancel();
  return new Promise<void>((resolve, reject) => {
    call.on('data', (message: Response) => {
      try {
        onMessage(message);
      } catch (error) {
        reject(error);
      }
    });
    call.on('end', resolve);
    call.on('error', (error) => reject(faultOfError('the stream failed', error)));
  }).finally(() => {
    spec.signal.removeEventListener('abort', cancel);
    call.cancel();
  });
}

/** A bidirectional stream with the channel that it runs on. */
export interface OpenStream<Out, In> {
  readonly call: ClientDuplexStream<Out, In>;
  close(): void;
}

/** Opens one bidirectional stream on a channel of its own: `openStream(ClassifierClient, address, (client) => client.classify())`. */
export function openStream<C extends Client, Out, In>(
  Class: ClientClass<C>,
  address: string,
  start: (client: C) => ClientDuplexStream<Out, In>,
): OpenStream<Out, In> {
  const { client } = connectClient(Class, address);
  const call = start(client);
  call.on('error', () => {});
  return {
    call,
    close: () => {
      call.cancel();
      client.close();
    },
  };
}
