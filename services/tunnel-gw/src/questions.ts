// SPDX-License-Identifier: Apache-2.0
// The two long streams of per-flow questions, one to a classifier and one to a path-selector.
import {
  ClassifierClient,
  type ClassifyAnswer,
  type ClassifyAnswers,
  type ClassifyBatch,
  type ClassifyQuestion,
  PathSelectorClient,
  type SelectAnswer,
  type SelectAnswers,
  type SelectBatch,
  type SelectQuestion,
} from '@detour/contracts';
import type { Log } from '@detour/core';
import { openStream, QuestionStream } from '@detour/rpc';

/** Whom a stream may be opened to. */
export interface Controllers {
  readonly key: string; // the gateway's name
  readonly log: Log;
  readonly instances: () => readonly string[];
}

export type ClassifyStream = QuestionStream<ClassifyQuestion, ClassifyAnswer, ClassifyBatch, ClassifyAnswers>;
export type SelectStream = QuestionStream<SelectQuestion, SelectAnswer, SelectBatch, SelectAnswers>;

export function openClassify(to: Controllers, timeoutMs: number): ClassifyStream {
  return new QuestionStream({
    ...to,
    name: 'classify',
    timeoutMs,
    open: (address) => openStream(ClassifierClient, address, (client) => client.classify()),
    pack: (questions) => ({ questions }),
    unpack: (batch) => batch.answers,
  });
}

export function openSelect(to: Controllers, timeoutMs: number): SelectStream {
  return new QuestionStream({
    ...to,
    name: 'select-path',
    timeoutMs,
    open: (address) => openStream(PathSelectorClient, address, (client) => client.selectPath()),
    pack: (questions) => ({ questions }),
    unpack: (batch) => batch.answers,
  });
}
