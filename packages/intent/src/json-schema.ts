// SPDX-License-Identifier: Apache-2.0
/** The JSON Schema of the document for editors, and the keys that it knows at a place of a document. */
import { z } from 'zod';
import { documentSchema } from './schema.js';

interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly items?: SchemaNode;
  readonly additionalProperties?: SchemaNode | boolean;
  readonly anyOf?: readonly SchemaNode[];
  readonly oneOf?: readonly SchemaNode[];
  readonly const?: unknown;
}

/** The document's JSON Schema (draft 2020-12), as text; committed as `gen/intent.schema.json`. */
export function jsonSchemaText(): string {
  return `${JSON.stringify(z.toJSONSchema(documentSchema, { io: 'input', target: 'draft-2020-12' }), null, 2)}\n`;
}

/** The branches that the data's constants (kind, protocol) allow; the node itself when it is no union. */
function branchesOf(node: SchemaNode, data: unknown): SchemaNode[] {
  const union = node.anyOf ?? node.oneOf;
  if (union === undefined) return [node];
  const fits = (branch: SchemaNode): boolean => {
    if (typeof data !== 'object' || data === null) return true;
    return Object.entries(branch.properties ?? {}).every(([key, property]) => {
      const value: unknown = Reflect.get(data, key);
      return property.const === undefined || value === undefined || value === property.const;
    });
  };
  return union.flatMap((branch) => branchesOf(branch, data)).filter(fits);
}

/** Reads which keys the mapping at a path of `data` may have; empty where any key may stand. */
export function knownKeysReader(): (path: readonly PropertyKey[], data: unknown) => readonly string[] {
  const root = z.toJSONSchema(documentSchema, { io: 'input' }) as SchemaNode;
  return (path, data) => {
    let here: unknown = data;
    let nodes = branchesOf(root, here);
    for (const part of path) {
      here = typeof here === 'object' && here !== null ? Reflect.get(here, part) : undefined;
      nodes = nodes.flatMap((node) => {
        const extra = typeof node.additionalProperties === 'object' ? node.additionalProperties : undefined;
        const inner = typeof part === 'number' ? node.items : (node.properties?.[String(part)] ?? extra);
        return inner === undefined ? [] : branchesOf(inner, here);
      });
    }
    return [...new Set(nodes.flatMap((node) => Object.keys(node.properties ?? {})))];
  };
}
