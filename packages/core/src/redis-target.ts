// SPDX-License-Identifier: Apache-2.0
// Where Redis is, as one text: a single server, one that sentinels name, or a cluster.

export type RedisEndpoint = { readonly host: string; readonly port: number };

interface RedisAccess {
  /** The text without user and password: for logs and alarms. */
  readonly shown: string;
  readonly username?: string;
  readonly password?: string;
  readonly tls: boolean;
}

/** Sentinels are asked without a password; user and password are the servers'. */
export type RedisTarget = RedisAccess &
  (
    | {
        readonly kind: 'standalone';
        readonly at: RedisEndpoint | { readonly path: string };
        readonly db: number;
      }
    | {
        readonly kind: 'sentinel';
        readonly sentinels: readonly RedisEndpoint[];
        /** Under which the sentinels know the master. */
        readonly name: string;
      }
    | { readonly kind: 'cluster'; readonly nodes: readonly RedisEndpoint[] }
  );

export type ParsedRedisTarget =
  | { readonly ok: true; readonly value: RedisTarget }
  | { readonly ok: false; readonly why: string };

export const REDIS_FORMS =
  'redis://host:port, unix:/path, redis+sentinel://host:port,host:port/name or redis+cluster://host:port,host:port';
const DEFAULT_PORT = { standalone: 6_379, sentinel: 26_379, cluster: 6_379 } as const;
const SHAPE = /^(rediss?)(?:\+(sentinel|cluster))?:\/\/(?:([^@/\s]*)@)?([^@/?#\s]+)(?:\/([A-Za-z0-9._-]*))?$/;

/** `unix:/path`, `redis://`, `redis+sentinel://…/name`, `redis+cluster://`; `rediss` is TLS. User and password are percent-encoded. */
export function parseRedisTarget(text: string): ParsedRedisTarget {
  if (/^unix:\/\S+$/.test(text)) {
    const at = { path: text.slice('unix:'.length) };
    return { ok: true, value: { kind: 'standalone', shown: text, tls: false, at, db: 0 } };
  }
  const match = SHAPE.exec(text);
  if (match === null) return bad(REDIS_FORMS);
  const [, scheme = '', form, userInfo, hosts = '', rest = ''] = match;
  const kind = form === 'sentinel' || form === 'cluster' ? form : 'standalone';
  const endpoints: RedisEndpoint[] = [];
  for (const one of hosts.split(',')) {
    const endpoint = parseEndpoint(one, DEFAULT_PORT[kind]);
    if (endpoint === null) return bad(`"${one}" is no host:port (an IPv6 address in brackets)`);
    endpoints.push(endpoint);
  }
  const [first] = endpoints;
  if (first === undefined) return bad(REDIS_FORMS);
  const login = parseLogin(userInfo);
  if (login === null) return bad('user and password, percent-encoded');
  const shown = `${scheme}${form === undefined ? '' : `+${form}`}://${hosts}${rest === '' ? '' : `/${rest}`}`;
  const access = { shown, tls: scheme === 'rediss', ...login };
  switch (kind) {
    case 'sentinel':
      if (rest === '') return bad('the name of the master behind the sentinels: redis+sentinel://…/name');
      return { ok: true, value: { kind, ...access, sentinels: endpoints, name: rest } };
    case 'cluster':
      if (rest !== '') return bad('no database: a cluster has only one');
      return { ok: true, value: { kind, ...access, nodes: endpoints } };
    case 'standalone': {
      if (endpoints.length > 1) return bad(`one host, or say what the hosts are: ${REDIS_FORMS}`);
      if (!/^\d{0,4}$/.test(rest)) return bad('a number as the database');
      return { ok: true, value: { kind, ...access, at: first, db: Number(rest) } };
    }
  }
}

function bad(why: string): { readonly ok: false; readonly why: string } {
  return { ok: false, why };
}

function parseEndpoint(text: string, defaultPort: number): RedisEndpoint | null {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? defaultPort : Number(match[3]);
  return host !== undefined && port > 0 && port <= 65_535 ? { host, port } : null;
}

/** `user:password`, `:password` or `user`; null when it is not percent-encoded. */
function parseLogin(text: string | undefined): Pick<RedisAccess, 'username' | 'password'> | null {
  if (text === undefined || text === '') return {};
  const colon = text.indexOf(':');
  const [user, secret] = colon < 0 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1)];
  try {
    return {
      ...(user === '' ? {} : { username: decodeURIComponent(user) }),
      ...(secret === '' ? {} : { password: decodeURIComponent(secret) }),
    };
  } catch {
    return null;
  }
}
