// SPDX-License-Identifier: Apache-2.0
// Real servers on real sockets; a frozen one is a process of its own that is stopped by SIGSTOP.
import { execFile, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  ClassifierClient,
  ClassifierService,
  ClassifyAnswer,
  type ClassifyAnswers,
  type ClassifyBatch,
  ClassifyQuestion,
} from '@detour/contracts';
import { Fault, silentLog } from '@detour/core';
import { until } from '@detour/testkit';
import { beforeAll, describe, expect, it } from 'vitest';
import { type AnswerSpec, answerQuestions } from './answer-questions.js';
import { openStream } from './client.js';
import { QuestionStream, type QuestionStreamSpec } from './question-stream.js';
import { rankInstances } from './rendezvous.js';
import { implement, serve } from './serve.js';

type Spec = AnswerSpec<ClassifyBatch, ClassifyAnswers, ClassifyQuestion, ClassifyAnswer>;

async function classifier(answer: Spec['answer'], overrides: Partial<Spec> = {}) {
  const batches: number[] = [];
  const server = await serve({
    address: '127.0.0.1:0',
    log: silentLog,
    services: [
      implement(ClassifierService, {
        classify: answerQuestions<ClassifyBatch, ClassifyAnswers, ClassifyQuestion, ClassifyAnswer>({
          unpack: ({ questions }) => {
            batches.push(questions.length);
            return questions;
          },
          pack: (answers) => ({ answers }),
          answer,
          failed: ({ id }, fault) => ClassifyAnswer.create({ id, error: `${fault.code}: ${fault.detail}` }),
          log: silentLog,
          ...overrides,
        }),
        watchRules: (call) => call.end(),
      }),
    ],
  });
  return Object.assign(server, { batches });
}

type Questions = QuestionStreamSpec<ClassifyQuestion, ClassifyAnswer, ClassifyBatch, ClassifyAnswers>;
const ask = (instances: () => readonly string[], overrides: Partial<Questions> = {}) =>
  new QuestionStream<ClassifyQuestion, ClassifyAnswer, ClassifyBatch, ClassifyAnswers>({
    name: 'classify',
    key: 'edge1',
    instances,
    open: (address) => openStream(ClassifierClient, address, (client) => client.classify()),
    pack: (questions) => ({ questions }),
    unpack: ({ answers }) => answers,
    timeoutMs: 2_000,
    log: silentLog,
    ...overrides,
  });
const question = (port = 0) => ClassifyQuestion.create({ gateway: 'edge1', port });
const echo: Spec['answer'] = ({ id, port }) => ClassifyAnswer.create({ id, rule: port });
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'no fault',
    (error: unknown) => (error instanceof Fault ? error.code : error),
  );

describe('QuestionStream', () => {
  it('correlates answers that come in any order, in batches', async () => {
    const open: (() => void)[] = [];
    await using server = await classifier(
      ({ id, port }) =>
        new Promise((resolve) => open.unshift(() => resolve(ClassifyAnswer.create({ id, rule: port })))),
    );
    using stream = ask(() => [server.address]);
    const asked = Array.from({ length: 1_000 }, (_, i) => stream.ask(question(i)));
    await until(() => open.length === 1_000);
    for (const answer of open) answer();
    expect((await Promise.all(asked)).map((answer) => answer.rule)).toEqual(
      Array.from({ length: 1_000 }, (_, i) => i),
    );
    expect(server.batches).toEqual([512, 488]);
    expect(stream.counters).toMatchObject({ asked: 1_000, answered: 1_000, timeouts: 0, late: 0 });
    expect(stream.inFlight).toBe(0);
  });

  it('answers an error for the one question that fails', async () => {
    await using server = await classifier((one) => {
      if (one.port === 1) throw new Fault('invalid', 'no such port');
      if (one.port === 2) return Promise.reject(new Error('broken'));
      return echo(one);
    });
    using stream = ask(() => [server.address]);
    const answers = await Promise.all([0, 1, 2].map((port) => stream.ask(question(port))));
    expect(answers.map((answer) => answer.error)).toEqual(['', 'invalid: no such port', 'internal: broken']);
  });

  it('questions that came together are answered together, each in its own time and with its own fault', async () => {
    const unasked: Spec['answer'] = () => expect.unreachable('answered one by one');
    await using server = await classifier(unasked, {
      answerMany: async (questions) => {
        if (questions.some(({ port }) => port === 9)) throw new Fault('invalid', 'all of them');
        if (questions.some(({ port }) => port === 8)) return [];
        return questions.map((one) => {
          if (one.port === 1) return Promise.reject(new Error('broken'));
          return one.port === 2 ? Promise.resolve(echo(one)) : echo(one);
        });
      },
    });
    using stream = ask(() => [server.address]);
    const all = (ports: number[]) => Promise.all(ports.map((port) => stream.ask(question(port))));
    const answers = await all([0, 1, 2, 3]);
    expect(answers.map(({ rule, error }) => error || rule)).toEqual([0, 'internal: broken', 2, 3]);
    expect((await all([4, 9])).map(({ error }) => error)).toEqual(Array(2).fill('invalid: all of them'));
    expect((await all([8, 5])).map(({ error }) => error)).toEqual(
      Array(2).fill('internal: 0 answers to 2 questions'),
    );
    expect((await all([6])).map(({ rule }) => rule)).toEqual([6]);
  });

  it('times out each question by itself; late answers are dropped and counted', async () => {
    let release = () => {};
    await using server = await classifier((one) =>
      one.port === 1
        ? new Promise((resolve) => {
            release = () => resolve(echo(one));
          })
        : echo(one),
    );
    using stream = ask(() => [server.address]);
    await stream.ask(question(0));
    const since = performance.now();
    const slow = codeOf(stream.ask(question(1), { timeoutMs: 20 }));
    expect((await stream.ask(question(0))).rule).toBe(0);
    expect(await slow).toBe('timeout');
    expect(performance.now() - since).toBeGreaterThanOrEqual(19);
    release();
    await until(() => stream.counters.late === 1);
  });

  it('bounds open questions', async () => {
    await using server = await classifier(() => new Promise(() => {}));
    using stream = ask(() => [server.address], { maxInFlight: 3, timeoutMs: 100 });
    const open = [1, 2, 3].map(() => codeOf(stream.ask(question())));
    expect(await codeOf(stream.ask(question()))).toBe('exhausted');
    expect(await Promise.all(open)).toEqual(['timeout', 'timeout', 'timeout']);
  });

  it('says at once that nobody can be asked, and recovers when somebody can', async () => {
    const instances: string[] = [];
    using stream = ask(() => instances);
    expect(await codeOf(stream.ask(question()))).toBe('unavailable');
    instances.push('127.0.0.1:1');
    expect(await codeOf(stream.ask(question()))).toBe('unavailable');
    await using server = await classifier(echo);
    instances[0] = server.address;
    await until(() => stream.connected);
    expect((await stream.ask(question(7))).rule).toBe(7);
  });

  it('asks open questions again of another instance when its own dies', async () => {
    const dead = () => new Promise<never>(() => {});
    const one = await classifier(dead);
    const two = await classifier(dead);
    const [preferred, other] =
      rankInstances('edge1', [one.address, two.address])[0] === one.address ? [one, two] : [two, one];
    await other[Symbol.asyncDispose]();
    await using answering = await classifier(echo);
    const listed = [preferred.address];
    using stream = ask(() => listed);
    const asked = Promise.all([stream.ask(question(1)), stream.ask(question(2))]);
    await until(() => preferred.batches.length > 0);
    expect(stream.address).toBe(preferred.address);
    listed.push(answering.address);
    await preferred[Symbol.asyncDispose]();
    expect((await asked).map((answer) => answer.rule)).toEqual([1, 2]);
    expect(stream.address).toBe(answering.address);
    expect(stream.counters.reasked).toBe(2);
  });

  it('loses no question when the server ends the stream after its life', async () => {
    await using server = await classifier(echo, { lifeMs: 50 });
    using stream = ask(() => [server.address]);
    const severalLives = performance.now() + 500;
    for (let asked = 0; asked < 50 || performance.now() < severalLives; asked++) {
      expect((await stream.ask(question(5))).rule).toBe(5);
    }
    expect(stream.counters.timeouts).toBe(0);
  });

  it('leaves an instance that is no longer listed', async () => {
    await using one = await classifier(echo);
    await using two = await classifier(echo);
    let listed = [one.address];
    using stream = ask(() => listed);
    await until(() => stream.connected);
    listed = [two.address];
    await until(() => stream.address === two.address && stream.connected);
  });

  it('gives up a server that accepts connections and says nothing', async () => {
    const mute = createServer(() => {});
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
    const bound = mute.address();
    const address = `127.0.0.1:${typeof bound === 'object' && bound !== null ? bound.port : 0}`;
    await using server = await classifier(echo);
    const listed = [address];
    using stream = ask(() => listed);
    await until(() => stream.address === address);
    listed.push(server.address);
    await until(() => stream.connected && stream.address === server.address, { timeoutMs: 10_000 });
    mute.close();
  });
});

describe('a frozen server', () => {
  const root = fileURLToPath(new URL('../../..', import.meta.url));
  beforeAll(async () => {
    await promisify(execFile)('pnpm', ['exec', 'tsc', '-b', 'packages/rpc'], { cwd: root });
  });

  it('is left within seconds, and used again once it thaws', async () => {
    const source = `
      import { answerQuestions, implement, serve } from '${root}packages/rpc/dist/index.js';
      import { ClassifierService, ClassifyAnswer } from '${root}packages/contracts/dist/index.js';
      import { silentLog } from '${root}packages/core/dist/index.js';
      const server = await serve({ address: '127.0.0.1:0', log: silentLog, services: [implement(ClassifierService, {
        classify: answerQuestions({ unpack: (b) => b.questions, pack: (answers) => ({ answers }), log: silentLog,
          answer: ({ id }) => ClassifyAnswer.fromPartial({ id, rule: 99 }), failed: () => { throw new Error(); } }),
        watchRules: (call) => call.end(),
      })] });
      process.stdout.write(server.address);
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', source]);
    try {
      let address = '';
      child.stdout.on('data', (chunk) => {
        address += chunk;
      });
      await until(() => /:\d+$/.test(address), { timeoutMs: 10_000 });
      await using other = await classifier(echo);
      const listed = [address];
      using stream = ask(() => listed);
      expect((await stream.ask(question())).rule).toBe(99);
      child.kill('SIGSTOP');
      expect(await codeOf(stream.ask(question(), { timeoutMs: 20 }))).toBe('timeout');
      listed.push(other.address);
      await until(() => stream.address === other.address, { timeoutMs: 10_000 });
      expect((await stream.ask(question(3))).rule).toBe(3);
      child.kill('SIGCONT');
      listed.pop();
      await until(async () => (await stream.ask(question())).rule === 99, { timeoutMs: 10_000 });
    } finally {
      child.kill('SIGKILL');
    }
  });
});
