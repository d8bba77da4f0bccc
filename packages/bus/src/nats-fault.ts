// SPDX-License-Identifier: Apache-2.0
// What NATS says, as Faults.
import { describeError, Fault } from '@detour/core';
import { JetStreamApiCodes, JetStreamApiError } from '@nats-io/jetstream';
import { errors } from '@nats-io/nats-core';

/** A Fault for whatever a NATS call threw; `doing` begins its sentence. */
export function faultOfNats(doing: string, error: unknown): Fault {
  if (error instanceof Fault) return error;
  if (error instanceof JetStreamApiError) {
    if (
      error.code === JetStreamApiCodes.StreamWrongLastSequence ||
      error.code === JetStreamApiCodes.StreamWrongLastSequenceUnknown
    ) {
      return new Fault('conflict', `${doing}: somebody else changed it first; read it again`, error);
    }
    return new Fault('unavailable', `${doing}: JetStream says ${error.message}`, error);
  }
  if (error instanceof Error && error.name === 'JetStreamNotEnabled') {
    return new Fault('unavailable', `${doing}: this NATS server has no JetStream; start it with -js`, error);
  }
  if (error instanceof errors.TimeoutError) {
    return new Fault('timeout', `${doing}: NATS did not answer in time`, error);
  }
  if (error instanceof errors.NoRespondersError || error instanceof errors.RequestError) {
    return new Fault('unavailable', `${doing}: ${describeError(error)}`, error);
  }
  return new Fault('unavailable', `${doing}: ${describeError(error)}`, error);
}
