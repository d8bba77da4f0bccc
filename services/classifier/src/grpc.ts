// SPDX-License-Identifier: Apache-2.0
/** What is served: Classify (questions on a long stream) and WatchRules (the rule table per gateway). */
import {
  ClassifierService,
  ClassifyAnswer,
  type ClassifyAnswers,
  type ClassifyBatch,
  type ClassifyQuestion,
  type RuleRow,
} from '@detour/contracts';
import type { Log } from '@detour/core';
import { answerQuestions, implement, type ServiceImplementation, type TablePublisher } from '@detour/rpc';
import { answerQuestion } from './classify.js';
import type { LiveTables } from './live-tables.js';

export interface GrpcSpec {
  readonly tables: LiveTables;
  readonly publisher: TablePublisher<RuleRow>;
  readonly log: Log;
  /** Runs one question within its span and counts it. */
  readonly observe: (question: ClassifyQuestion, answer: () => ClassifyAnswer) => ClassifyAnswer;
}

export function classifierService({ tables, publisher, log, observe }: GrpcSpec): ServiceImplementation {
  return implement(ClassifierService, {
    classify: answerQuestions<ClassifyBatch, ClassifyAnswers, ClassifyQuestion, ClassifyAnswer>({
      unpack: ({ questions }) => questions,
      pack: (answers) => ({ answers }),
      answer: (question) =>
        observe(question, () => answerQuestion(question, tables.tableOf(question.gateway))),
      failed: ({ id }, { detail }) => ClassifyAnswer.fromPartial({ id, error: detail }),
      log,
    }),
    watchRules: publisher.handler,
  });
}
