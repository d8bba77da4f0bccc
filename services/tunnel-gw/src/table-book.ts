// SPDX-License-Identifier: Apache-2.0
// The tables as controllers sent them: each update checked before it is taken, and brought into force only together with the other table and
// the intent of the same revision. A refusal names the row; what was held stays.
import type { ChainRow, PathUpdate, RuleRow, RuleUpdate, TableVersion } from '@detour/contracts';
import {
  applyDelta,
  CompiledRules,
  digestChains,
  digestRules,
  validateChains,
  validateRules,
} from '@detour/tables';
import type { GatewayModel } from './model.js';

export type Taken =
  | { readonly ok: true }
  | { readonly ok: false; readonly row: string; readonly why: string };

interface Held<Row> {
  readonly rows: readonly Row[];
  readonly version: TableVersion;
  readonly digest: Uint8Array;
}

/** A whole version: all three parts of one revision. */
export interface TableSet {
  readonly model: GatewayModel;
  readonly rules: CompiledRules;
  readonly ruleRows: readonly RuleRow[];
  readonly chains: readonly ChainRow[];
  readonly rulesVersion: TableVersion;
  readonly pathsVersion: TableVersion;
  readonly rulesDigest: Uint8Array;
  readonly pathsDigest: Uint8Array;
}

export class TableBook {
  private model: GatewayModel | null = null;
  private rules: Held<RuleRow> | null = null;
  private paths: Held<ChainRow> | null = null;
  private compiled: { rows: readonly RuleRow[]; rules: CompiledRules } | null = null;

  offerModel(model: GatewayModel): void {
    this.model = model;
  }

  offerRules(update: RuleUpdate): Taken {
    const { version } = update;
    if (version === undefined) return { ok: false, row: '', why: 'the update names no version' };
    const rows = applyDelta(this.rules?.rows ?? [], update);
    const checked = validateRules(rows);
    if (!checked.ok) return checked;
    const digest = digestRules(rows);
    if (Buffer.compare(digest, update.digest) !== 0)
      return {
        ok: false,
        row: 'table',
        why: 'its digest is not that of the rows: a row was lost or changed on the way',
      };
    this.rules = { rows, version, digest };
    return { ok: true };
  }

  offerPaths(update: PathUpdate): Taken {
    const { version } = update;
    if (version === undefined) return { ok: false, row: '', why: 'the update names no version' };
    const rows = applyDelta(this.paths?.rows ?? [], update);
    const checked = validateChains(rows);
    if (!checked.ok) return checked;
    const digest = digestChains(rows);
    if (Buffer.compare(digest, update.digest) !== 0)
      return {
        ok: false,
        row: 'table',
        why: 'its digest is not that of the rows: a row was lost or changed on the way',
      };
    if (this.model?.revision === version.revision) {
      const unknown = unknownNode(rows, this.model);
      if (unknown !== null) return unknown;
    }
    this.paths = { rows, version, digest };
    return { ok: true };
  }

  /** Everything of one revision, or null while parts of it are still on their way. */
  complete(): TableSet | null {
    const { model, rules, paths } = this;
    if (model === null || rules === null || paths === null) return null;
    if (rules.version.revision !== model.revision || paths.version.revision !== model.revision) return null;
    if (this.compiled?.rows !== rules.rows)
      this.compiled = { rows: rules.rows, rules: new CompiledRules(rules.rows) };
    return {
      model,
      rules: this.compiled.rules,
      ruleRows: rules.rows,
      chains: paths.rows,
      rulesVersion: rules.version,
      pathsVersion: paths.version,
      rulesDigest: rules.digest,
      pathsDigest: paths.digest,
    };
  }
}

/** Chains may go through nodes that are attached elsewhere: those paths are never up here. A number that no node has is an error. */
function unknownNode(rows: readonly ChainRow[], model: GatewayModel): Taken | null {
  for (const row of rows) {
    for (const path of row.paths) {
      const node = path.nodes.find((number) => !model.nodeNumbers.has(number));
      if (node !== undefined)
        return {
          ok: false,
          row: `chain ${row.name}`,
          why: `path ${path.number} goes through node ${node}, which revision ${model.revision} does not have`,
        };
    }
  }
  return null;
}
