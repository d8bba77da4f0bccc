// SPDX-License-Identifier: Apache-2.0
// Faults as gRPC statuses and back. The exact code travels in a trailer; the status is for those who do not know it.
import { describeError, FAULT_CODES, Fault, type FaultCode } from '@detour/core';
import { Metadata, type ServiceError, type StatusObject, status } from '@grpc/grpc-js';

export const STATUS_OF_FAULT: Readonly<Record<FaultCode, status>> = {
  invalid: status.INVALID_ARGUMENT,
  not_found: status.NOT_FOUND,
  conflict: status.ABORTED,
  unavailable: status.UNAVAILABLE,
  timeout: status.DEADLINE_EXCEEDED,
  missing_feature: status.UNIMPLEMENTED,
  permission: status.PERMISSION_DENIED,
  exhausted: status.RESOURCE_EXHAUSTED,
  refused: status.FAILED_PRECONDITION,
  internal: status.INTERNAL,
};

const FAULT_OF_STATUS: Readonly<Record<status, FaultCode>> = {
  [status.OK]: 'internal',
  [status.CANCELLED]: 'unavailable',
  [status.UNKNOWN]: 'internal',
  [status.INVALID_ARGUMENT]: 'invalid',
  [status.DEADLINE_EXCEEDED]: 'timeout',
  [status.NOT_FOUND]: 'not_found',
  [status.ALREADY_EXISTS]: 'conflict',
  [status.PERMISSION_DENIED]: 'permission',
  [status.RESOURCE_EXHAUSTED]: 'exhausted',
  [status.FAILED_PRECONDITION]: 'refused',
  [status.ABORTED]: 'conflict',
  [status.OUT_OF_RANGE]: 'invalid',
  [status.UNIMPLEMENTED]: 'missing_feature',
  [status.INTERNAL]: 'internal',
  [status.UNAVAILABLE]: 'unavailable',
  [status.DATA_LOSS]: 'internal',
  [status.UNAUTHENTICATED]: 'permission',
};

const TRAILER = 'detour-fault';
const MAX_DETAIL = 2_000;

/** What a server sends for whatever its handler threw. */
export function statusOfError(error: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const code: FaultCode = error instanceof Fault ? error.code : 'internal';
  const detail = error instanceof Fault ? error.detail : describeError(error);
  const metadata = new Metadata();
  metadata.set(TRAILER, code);
  return { code: STATUS_OF_FAULT[code], details: detail.slice(0, MAX_DETAIL), metadata };
}

/** The Fault for whatever a call ended with; `doing` begins the sentence when the peer itself said nothing. */
export function faultOfError(doing: string, error: unknown): Fault {
  if (error instanceof Fault) return error;
  if (!isServiceError(error)) return new Fault('internal', `${doing}: ${describeError(error)}`, error);
  const exact = error.metadata?.get(TRAILER)[0];
  const code = FAULT_CODES.find((one) => one === exact);
  return code === undefined
    ? new Fault(FAULT_OF_STATUS[error.code], `${doing}: ${error.details}`, error)
    : new Fault(code, error.details, error);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'details' in error && typeof error.code === 'number';
}
