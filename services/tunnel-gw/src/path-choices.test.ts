// SPDX-License-Identifier: Apache-2.0

import { SelectPolicy } from '@detour/contracts';
import { hashKeyFromHex } from '@detour/core';
import { expect, it } from 'vitest';
import { ChainModels } from './chain-models.js';
import type { ChainModel } from './model.js';
import { PathChoices } from './path-choices.js';
import { chainRow, flowQuestion } from './testdata.js';

const key = hashKeyFromHex('00112233445566778899aabbccddeeff');

function chain(select: SelectPolicy): ChainModel {
  const models = new ChainModels(new Map());
  models.commit(models.draft([chainRow({ select })], () => 'up'));
  const model = models.get(1);
  if (model === undefined) throw new Error('no chain');
  return model;
}

it('one question is one choice, whoever answers it; a flow that goes another way is no part of the history', () => {
  const choices = new PathChoices('edge1');
  const model = chain(SelectPolicy.ROUND_ROBIN);
  const [first, second, third] = [flowQuestion(), flowQuestion(), flowQuestion()];
  expect(choices.choose(model, first, key)).toBe(1);
  expect(choices.choose(model, first, key)).toBe(1);
  expect(choices.choose(model, second, key)).toBe(2);
  choices.settle(first, 1);
  choices.settle(second, 1); // it had a pin there
  expect(choices.choose(model, third, key)).toBe(2);
});

it('a choice whose path has gone meanwhile is made anew', () => {
  const choices = new PathChoices('edge1');
  const model = chain(SelectPolicy.ROUND_ROBIN);
  const question = flowQuestion();
  expect(choices.choose(model, question, key)).toBe(1);
  const paths = model.paths.map((path) => (path.number === 1 ? { ...path, weight: 0 } : path));
  expect(choices.choose({ ...model, paths }, question, key)).toBe(2);
});

it('least-flows goes by the last count', () => {
  const choices = new PathChoices('edge1');
  const model = chain(SelectPolicy.LEAST_FLOWS);
  choices.choose(model, flowQuestion(), key);
  choices.beginCount()(new Map([[1, 2]]));
  const next = [1, 2, 3].map(() => choices.choose(model, flowQuestion(), key));
  expect(next).toEqual([2, 2, 1]);
});
