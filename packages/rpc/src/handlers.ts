// SPDX-License-Identifier: Apache-2.0
// Handlers as plain functions: what they throw becomes a status, what the client cancels becomes an AbortSignal.
import { Fault } from '@detour/core';
import type { handleServerStreamingCall, handleUnaryCall } from '@grpc/grpc-js';
import { statusOfError } from './fault-status.js';

export interface CallContext {
  /** Aborted when the client cancels or its deadline passes. */
  readonly signal: AbortSignal;
  /** Milliseconds until the client's deadline; Infinity without one. */
  readonly deadlineMs: number;
}

interface CancellableCall {
  getDeadline(): Date | number;
  on(event: 'cancelled' | 'error', listener: () => void): unknown;
}

/** Every call ends as cancelled, also one that was answered: a signal is made for those alone who ask for it. */
function contextOfCall(call: CancellableCall): CallContext {
  let gone = false;
  let made: AbortController | null = null;
  const abort = () => {
    gone = true;
    made?.abort(callerGone());
  };
  call.on('cancelled', abort);
  call.on('error', abort);
  return {
    get signal() {
      made ??= new AbortController();
      if (gone && !made.signal.aborted) made.abort(callerGone());
      return made.signal;
    },
    deadlineMs: Number(call.getDeadline()) - Date.now(),
  };
}

const callerGone = (): Fault => new Fault('unavailable', 'the caller has gone');

/** A unary method. */
export function unary<Request, Response>(
  answer: (request: Request, context: CallContext) => Promise<Response> | Response,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    Promise.resolve()
      .then(() => answer(call.request, contextOfCall(call)))
      .then(
        (response) => callback(null, response),
        (error: unknown) => callback(statusOfError(error)),
      );
  };
}

/** A server-streaming method; waits when the client reads slowly. */
export function serverStream<Request, Response>(
  answer: (request: Request, context: CallContext) => AsyncIterable<Response>,
): handleServerStreamingCall<Request, Response> {
  return (call) => {
    const context = contextOfCall(call);
    const send = async () => {
      for await (const response of answer(call.request, context)) {
        if (context.signal.aborted) return;
        if (!call.write(response)) await drained(call, context.signal);
      }
    };
    send().then(
      () => call.end(),
      (error: unknown) => {
        // grpc-js turns an emitted error into the status and ends the call; destroy would send nothing
        if (!context.signal.aborted) call.emit('error', Object.assign(new Error(), statusOfError(error)));
      },
    );
  };
}

function drained(call: NodeJS.EventEmitter, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      call.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    call.on('drain', done);
    signal.addEventListener('abort', done);
  });
}
