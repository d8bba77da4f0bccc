// SPDX-License-Identifier: Apache-2.0
/** zod's issues as problems of the document: what was found, in the operator's words, and the remedy. */
import type { z } from 'zod';
import { nearestWord } from './nearest.js';
import type { ProblemCode } from './problem.js';

/** A problem before it has a place in a file. */
export interface ShapeProblem {
  readonly code: ProblemCode;
  readonly path: readonly PropertyKey[];
  /** Set when the key itself is at fault, not its value. */
  readonly key?: string;
  readonly message: string;
  readonly remedy: string;
}

type Issue = z.core.$ZodIssue;

function words(values: readonly unknown[]): string {
  return values.map((value) => String(value)).join(', ');
}

function enumProblem(
  path: readonly PropertyKey[],
  value: unknown,
  allowed: readonly unknown[],
): ShapeProblem {
  const nearest = typeof value === 'string' ? nearestWord(value, allowed.map(String)) : undefined;
  const hint = nearest === undefined ? '' : ` (did you mean "${nearest}"?)`;
  const message = value === undefined ? 'is missing' : 'is not one of the values allowed here';
  return {
    code: 'wrong_shape',
    path,
    message,
    remedy: `write ${allowed.length === 1 ? '' : 'one of '}${words(allowed)}${hint}`,
  };
}

/** What to write instead of a key that other kinds of attach have. */
function attachRemedy(value: unknown, key: string): string | undefined {
  const kind = typeof value === 'object' && value !== null && 'kind' in value ? value.kind : undefined;
  return key === 'gateways' && (kind === 'l2pair' || kind === 'l3')
    ? `write gateway, with one name: an ${kind} belongs to one gateway, and its flows end with it`
    : undefined;
}

function unknownKeys(
  issue: Issue & { code: 'unrecognized_keys' },
  path: readonly PropertyKey[],
  { known, value }: { readonly known: readonly string[]; readonly value: unknown },
) {
  return issue.keys.map((key): ShapeProblem => {
    const nearest = nearestWord(key, known);
    const own = attachRemedy(value, key);
    const remedy =
      own !== undefined
        ? own
        : nearest !== undefined
          ? `did you mean "${nearest}"?`
          : known.length > 0
            ? `known keys here: ${known.join(', ')}`
            : 'remove it';
    return { code: 'unknown_key', path, key, message: `"${key}" is no key of this document`, remedy };
  });
}

/** Among the branches of a union, the issues of the one that fits best: right type, only details wrong. */
function bestBranch(issue: Issue & { code: 'invalid_union' }): readonly Issue[] | undefined {
  const branches = issue.errors.filter((branch) =>
    branch.every((inner) => inner.path.length > 0 || inner.code === 'unrecognized_keys'),
  );
  return branches.length === 1 ? branches[0] : undefined;
}

function typeProblem(
  path: readonly PropertyKey[],
  value: unknown,
  expected: string,
  message: string,
): ShapeProblem {
  if (value === undefined)
    return { code: 'wrong_shape', path, message: 'is missing', remedy: `add ${String(path.at(-1) ?? 'it')}` };
  const kinds: Record<string, string> = {
    object: 'a mapping',
    record: 'a mapping',
    array: 'a list',
    boolean: 'true or false',
  };
  const wanted = kinds[expected] ?? `a ${expected}`;
  const own = message.startsWith('Invalid input') ? undefined : message;
  const quotes = expected === 'string' && typeof value === 'number' ? ', in quotes if need be' : '';
  return {
    code: 'wrong_shape',
    path,
    message: own === undefined ? 'is of the wrong type' : 'does not fit',
    remedy: own ?? `write ${wanted}${quotes}`,
  };
}

/** Turns one issue into problems; `valueAt` reads the document, `keysAt` knows the keys that a mapping may have. */
export function shapeProblems(
  issue: Issue,
  base: readonly PropertyKey[],
  reader: {
    valueAt(path: readonly PropertyKey[]): unknown;
    keysAt(path: readonly PropertyKey[]): readonly string[];
  },
): ShapeProblem[] {
  const path = [...base, ...issue.path];
  const value = reader.valueAt(path);
  switch (issue.code) {
    case 'unrecognized_keys':
      return unknownKeys(issue, path, { known: reader.keysAt(path), value });
    case 'invalid_value':
      return [enumProblem(path, value, issue.values)];
    case 'invalid_type':
      return [typeProblem(path, value, issue.expected, issue.message)];
    case 'invalid_union': {
      if ('options' in issue && issue.options !== undefined) return [enumProblem(path, value, issue.options)];
      const branch = bestBranch(issue);
      if (branch !== undefined) return branch.flatMap((inner) => shapeProblems(inner, path, reader));
      if (value === undefined)
        return [{ code: 'wrong_shape', path, message: 'is missing', remedy: `it ${issue.message}` }];
      return [{ code: 'wrong_shape', path, message: 'does not fit', remedy: issue.message }];
    }
    case 'invalid_key':
      return issue.issues.map((inner) => ({
        code: 'wrong_shape' as const,
        path: path.slice(0, -1),
        key: String(path.at(-1)),
        message: `"${String(path.at(-1))}" is no valid key here`,
        remedy: inner.message,
      }));
    case 'custom': {
      const remedy: unknown = issue.params?.remedy;
      if (typeof remedy === 'string') return [{ code: 'wrong_shape', path, message: issue.message, remedy }];
      return [{ code: 'wrong_shape', path, message: 'does not fit', remedy: issue.message }];
    }
    default:
      return [{ code: 'wrong_shape', path, message: 'does not fit', remedy: issue.message }];
  }
}
