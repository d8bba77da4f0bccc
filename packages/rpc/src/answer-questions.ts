// SPDX-License-Identifier: Apache-2.0
// The server's side of per-flow questions: answers of one turn of the event loop go out as one batch.
import { describeError, Fault, type Log } from '@detour/core';
import { type handleBidiStreamingCall, Metadata } from '@grpc/grpc-js';
import { jitterLife, STREAM_LIFE_MS } from './stream-life.js';

export interface AnswerSpec<QB, AB, Q, A> {
  readonly unpack: (batch: QB) => readonly Q[];
  readonly pack: (answers: A[]) => AB;
  readonly answer: (question: Q) => A | Promise<A>;
  /** Questions that came together, answered in their order: for all of them in place of `answer`, where that is cheaper. */
  readonly answerMany?: (questions: readonly Q[]) => Promise<readonly (A | Promise<A>)[]>;
  /** What is answered when `answer` threw or too many questions are open. */
  readonly failed: (question: Q, fault: Fault) => A;
  readonly log: Log;
  /** Milliseconds after which the stream is ended, ± 20 % (default 10 minutes). */
  readonly lifeMs?: number;
  /** Questions of one stream that may be open at once (default 8192). */
  readonly maxInFlight?: number;
}

export function answerQuestions<QB, AB, Q, A>(
  spec: AnswerSpec<QB, AB, Q, A>,
): handleBidiStreamingCall<QB, AB> {
  const { lifeMs = STREAM_LIFE_MS, maxInFlight = 8_192, log } = spec;
  return (call) => {
    let ready: A[] = [];
    let scheduled = false;
    let open = 0;
    let ending = false;
    let gone = false;
    const finishIfDone = () => {
      if (ending && open === 0 && !scheduled && !gone) {
        gone = true;
        call.end();
      }
    };
    const flush = () => {
      scheduled = false;
      const answers = ready;
      ready = [];
      if (!gone) call.write(spec.pack(answers));
      finishIfDone();
    };
    const give = (answer: A) => {
      ready.push(answer);
      if (scheduled) return;
      scheduled = true;
      setImmediate(flush);
    };
    const fail = (question: Q, error: unknown) => {
      const fault = error instanceof Fault ? error : new Fault('internal', describeError(error), error);
      if (fault.code === 'internal') log.error({ error: fault.detail }, 'a question could not be answered');
      give(spec.failed(question, fault));
    };
    const room = (question: Q): boolean => {
      if (open < maxInFlight) return true;
      fail(question, new Fault('exhausted', `${maxInFlight} questions are open`));
      return false;
    };
    const settled = () => {
      open -= 1;
      finishIfDone();
    };
    const settle = (question: Q, answer: A | Promise<A>) => {
      if (answer instanceof Promise)
        void answer.then(give, (error: unknown) => fail(question, error)).finally(settled);
      else {
        give(answer);
        settled();
      }
    };
    const takeOne = (question: Q) => {
      if (!room(question)) return;
      open += 1;
      try {
        settle(question, spec.answer(question));
      } catch (error) {
        fail(question, error);
        settled();
      }
    };
    const takeMany = (questions: readonly Q[], answerMany: NonNullable<typeof spec.answerMany>) => {
      const taken = questions.filter((question) => {
        if (!room(question)) return false;
        open += 1;
        return true;
      });
      const failAll = (error: unknown) => {
        for (const question of taken) {
          fail(question, error);
          settled();
        }
      };
      answerMany(taken).then((answers) => {
        if (answers.length !== taken.length)
          return failAll(new Fault('internal', `${answers.length} answers to ${taken.length} questions`));
        for (const [i, answer] of answers.entries()) {
          const question = taken[i];
          if (question !== undefined) settle(question, answer);
        }
      }, failAll);
    };
    const end = () => {
      ending = true;
      finishIfDone();
    };
    const drop = () => {
      gone = true;
      clearTimeout(life);
    };
    const life = setTimeout(end, jitterLife(lifeMs));
    life.unref();
    call.sendMetadata(new Metadata());
    call.on('data', (batch: QB) => {
      const questions = spec.unpack(batch);
      if (spec.answerMany !== undefined) takeMany(questions, spec.answerMany);
      else for (const question of questions) takeOne(question);
    });
    call.on('end', () => {
      clearTimeout(life);
      end();
    });
    call.on('cancelled', drop);
    call.on('error', drop);
  };
}
