// SPDX-License-Identifier: Apache-2.0
/** What is served: SelectPath (questions on a long stream) and WatchPaths (the path table). */
import {
  type ChainRow,
  PathSelectorService,
  SelectAnswer,
  type SelectAnswers,
  type SelectBatch,
  type SelectQuestion,
} from '@detour/contracts';
import type { Log } from '@detour/core';
import { answerQuestions, implement, type ServiceImplementation, type TablePublisher } from '@detour/rpc';
import type { LivePaths } from './live-paths.js';
import type { Observed } from './observe.js';
import { type Pins, selectPath, selectPaths } from './select-path.js';

export interface GrpcSpec {
  readonly paths: LivePaths;
  readonly pins: Pins;
  readonly publisher: TablePublisher<ChainRow>;
  readonly log: Log;
  /** Runs questions within their spans and counts them. */
  readonly observe: Pick<Observed, 'question' | 'questions'>;
}

export function pathSelectorService({
  paths,
  pins,
  publisher,
  log,
  observe,
}: GrpcSpec): ServiceImplementation {
  return implement(PathSelectorService, {
    selectPath: answerQuestions<SelectBatch, SelectAnswers, SelectQuestion, SelectAnswer>({
      unpack: ({ questions }) => questions,
      pack: (answers) => ({ answers }),
      answer: (question) => observe.question(question, () => selectPath(question, paths, pins)),
      answerMany: (questions) => observe.questions(questions, (some) => selectPaths(some, paths, pins)),
      failed: ({ id }, { detail }) => SelectAnswer.fromPartial({ id, error: detail }),
      log,
    }),
    watchPaths: publisher.handler,
  });
}
