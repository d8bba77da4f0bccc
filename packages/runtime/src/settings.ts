// SPDX-License-Identifier: Apache-2.0
// Typed settings from environment variables: garbage is refused, with the variable's name, the value and what would be right.
import { Fault, parseRedisTarget } from '@detour/core';

type Parsed<T> = { ok: true; value: T } | { ok: false; why: string };

/** One setting: its variable, its default as text (absent: required), and how its text is read. */
export interface Setting<T> {
  readonly variable: string;
  readonly default: string | undefined;
  /** Its text is not repeated when it is refused. */
  readonly secret?: boolean;
  readonly parse: (text: string) => Parsed<T>;
}
export type Settings = Readonly<Record<string, Setting<unknown>>>;
export type SettingValues<S extends Settings> = {
  readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never;
};

interface Default {
  readonly default?: string;
}

const good = <T>(value: T): Parsed<T> => ({ ok: true, value });
const bad = (why: string): { ok: false; why: string } => ({ ok: false, why });

function setting<T>(variable: string, options: Default, parse: (text: string) => Parsed<T>): Setting<T> {
  return { variable, default: options.default, parse };
}

/** Text; `oneOf` and `pattern` narrow it. Empty only if the default is. */
export function text<const T extends string = string>(
  variable: string,
  options: Default & { oneOf?: readonly T[]; pattern?: RegExp } = {},
): Setting<T> {
  return setting(variable, options, (got) => {
    if (options.oneOf !== undefined && !options.oneOf.some((one) => one === got)) {
      return bad(`one of ${options.oneOf.join(', ')}`);
    }
    if (got === '' && options.default !== '') return bad('a text that is not empty');
    if (got !== '' && options.pattern !== undefined && !options.pattern.test(got)) {
      return bad(`text that matches ${options.pattern.source}`);
    }
    return good(got as T);
  });
}

/** A whole decimal number within [min, max]. */
export function integer(variable: string, options: Default & { min: number; max: number }): Setting<number> {
  const right = `a whole number from ${options.min} to ${options.max}`;
  return setting(variable, options, (got) => {
    const value = Number(got);
    const inRange = value >= options.min && value <= options.max;
    return /^-?\d{1,15}$/.test(got) && inRange ? good(value) : bad(right);
  });
}

/** A share from 0 to 1. */
export function ratio(variable: string, options: Default = {}): Setting<number> {
  return setting(variable, options, (got) => {
    const value = Number(got);
    return /^\d(\.\d+)?$/.test(got) && value <= 1 ? good(value) : bad('a number from 0 to 1');
  });
}

/** true, false, 1, 0, yes, no. */
export function flag(variable: string, options: Default = {}): Setting<boolean> {
  return setting(variable, options, (got) => {
    if (['true', '1', 'yes'].includes(got)) return good(true);
    if (['false', '0', 'no'].includes(got)) return good(false);
    return bad('true or false');
  });
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** A duration with its unit (`20ms`, `1.5s`, `2m`, `1h`), as milliseconds. */
export function durationMs(
  variable: string,
  options: Default & { minMs?: number; maxMs?: number } = {},
): Setting<number> {
  const { minMs = 0, maxMs = 7 * 24 * 3_600_000 } = options;
  return setting(variable, options, (got) => {
    const match = /^(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h)$/.exec(got);
    const value = match === null ? Number.NaN : Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? Number.NaN);
    return value >= minMs && value <= maxMs
      ? good(value)
      : bad(`a duration with its unit from ${minMs}ms to ${maxMs}ms, such as 20ms or 5s`);
  });
}

/** A host and a port as one text, `127.0.0.1:7000` or `[::1]:7000`; port 0 means any free one. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export function hostPort(variable: string, options: Default = {}): Setting<HostPort> {
  return setting(variable, options, (got) => {
    const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})$/.exec(got);
    const host = match?.[1] ?? match?.[2];
    const port = Number(match?.[3]);
    return host !== undefined && port <= 65_535
      ? good(Object.freeze({ host, port }))
      : bad('host:port, such as 127.0.0.1:7000 or [::1]:7000');
  });
}

/** Comma-separated texts, at least one unless the default is empty; each must match `pattern`. */
export function list(
  variable: string,
  options: Default & { pattern?: RegExp } = {},
): Setting<readonly string[]> {
  return setting(variable, options, (got) => {
    const items = got === '' ? [] : got.split(',').map((item) => item.trim());
    if (items.length === 0 && options.default !== '') return bad('at least one item');
    const wrong = items.find((item) => item === '' || options.pattern?.test(item) === false);
    if (wrong !== undefined) {
      return bad(`comma-separated items${options.pattern ? ` that match ${options.pattern.source}` : ''}`);
    }
    return good(Object.freeze(items));
  });
}

/** Where Redis is (`parseRedisTarget`). The value may have a password in it: what is wrong with it is told, not what it was. */
export function redisUrl(variable: string, options: Default = {}): Setting<string> {
  return {
    ...setting(variable, options, (got) => {
      const parsed = parseRedisTarget(got);
      return parsed.ok ? good(got) : bad(parsed.why);
    }),
    secret: true,
  };
}

/** An absolute path. */
export function path(variable: string, options: Default = {}): Setting<string> {
  return setting(variable, options, (got) =>
    got.startsWith('/') && !got.includes('\0') ? good(got) : bad('an absolute path'),
  );
}

/**
 * Reads all settings from `env`; the result is frozen.
 * @throws Fault `invalid` that names every wrong or missing variable, one per line.
 */
export function readSettings<S extends Settings>(
  settings: S,
  env: Readonly<Record<string, string | undefined>>,
): SettingValues<S> {
  const values: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const [name, { variable, default: fallback, parse, secret }] of Object.entries(settings)) {
    const given = env[variable] ?? fallback;
    if (given === undefined) {
      problems.push(`${variable} is not set: it has no default`);
      continue;
    }
    const parsed = parse(given);
    if (parsed.ok) values[name] = parsed.value;
    else
      problems.push(`${variable}${secret ? '' : `=${JSON.stringify(given)}`} is refused: give ${parsed.why}`);
  }
  if (problems.length > 0) throw new Fault('invalid', problems.join('\n'));
  return Object.freeze(values) as SettingValues<S>;
}
