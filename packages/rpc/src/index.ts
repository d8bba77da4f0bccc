// SPDX-License-Identifier: Apache-2.0
// gRPC: servers, clients, per-flow questions on one long stream, versioned tables.
export { type AnswerSpec, answerQuestions } from './answer-questions.js';
export { MAX_MESSAGE_BYTES } from './channel-options.js';
export {
  type CallSpec,
  type ClientClass,
  type ConnectedClient,
  callUnary,
  connectClient,
  followStream,
  type OpenStream,
  openStream,
  readStream,
} from './client.js';
export { faultOfError, STATUS_OF_FAULT, statusOfError } from './fault-status.js';
export { type CallContext, serverStream, unary } from './handlers.js';
export { type QuestionCounters, QuestionStream, type QuestionStreamSpec } from './question-stream.js';
export { rankInstances } from './rendezvous.js';
export {
  type HandlerOf,
  implement,
  type RpcServer,
  type ServeSpec,
  type ServiceImplementation,
  serve,
} from './serve.js';
export { type SubscriberState, TablePublisher, type TablePublisherSpec } from './table-publisher.js';
export { type AppliedTable, type TableRefusal, TableStream, type TableStreamSpec } from './table-stream.js';
export type { TableRow, TableUpdate, TableVerdict } from './table-update.js';
