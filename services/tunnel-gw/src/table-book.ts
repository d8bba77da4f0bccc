// SPDX-License-Identifier: Apache-2.0
// The tables as controllers sent them: each is held as it arrives, and brought into force only together with the other table and the intent of
// the same revision. What a gateway can check beyond the streams' own checks is checked here, by name; a refusal leaves what was held.
import type { ChainRow, RuleRow, TableVersion } from '@detour/contracts';
import { CompiledRules, validateChains, validateRules } from '@detour/tables';
import type { GatewayModel } from './model.js';

export type Taken =
  | { readonly ok: true }
  | { readonly ok: false; readonly row: string; readonly why: string };

interface Held<Row> {
  readonly rows: readonly Row[];
  readonly version: TableVersion;
}

/** A whole version: all three parts of one revision. */
export interface TableSet {
  readonly model: GatewayModel;
  readonly rules: CompiledRules;
  readonly ruleRows: readonly RuleRow[];
  readonly chains: readonly ChainRow[];
  readonly rulesVersion: TableVersion;
  readonly pathsVersion: TableVersion;
}

export class TableBook {
  private model: GatewayModel | null = null;
  private epoch = '';
  private rules: Held<RuleRow> | null = null;
  private paths: Held<ChainRow> | null = null;
  private compiled: { rows: readonly RuleRow[]; rules: CompiledRules } | null = null;

  /** `epoch` of the bucket whose head names the revision: after a loss of that bucket, revisions count from 1 again. */
  offerModel(model: GatewayModel, epoch: string): void {
    this.model = model;
    this.epoch = epoch;
  }

  offerRules(rows: readonly RuleRow[], version: TableVersion): Taken {
    const checked = validateRules(rows);
    if (!checked.ok) return checked;
    this.rules = { rows, version };
    return { ok: true };
  }

  offerPaths(rows: readonly ChainRow[], version: TableVersion): Taken {
    const checked = validateChains(rows);
    if (!checked.ok) return checked;
    if (this.model !== null && this.isOfModel(version)) {
      const unknown = unknownNode(rows, this.model);
      if (unknown !== null) return unknown;
    }
    this.paths = { rows, version };
    return { ok: true };
  }

  /** Everything of one revision, or null while parts of it are still on their way. */
  complete(): TableSet | null {
    const { model, rules, paths } = this;
    if (model === null || rules === null || paths === null) return null;
    if (!this.isOfModel(rules.version) || !this.isOfModel(paths.version)) return null;
    if (this.compiled?.rows !== rules.rows)
      this.compiled = { rows: rules.rows, rules: new CompiledRules(rules.rows) };
    return {
      model,
      rules: this.compiled.rules,
      ruleRows: rules.rows,
      chains: paths.rows,
      rulesVersion: rules.version,
      pathsVersion: paths.version,
    };
  }

  private isOfModel(version: TableVersion): boolean {
    return version.revision === this.model?.revision && version.epoch === this.epoch;
  }

  /** What is missing, in a sentence; empty when nothing is. */
  waitingFor(): string {
    if (this.model === null) return 'no intent has been read yet';
    const { revision } = this.model;
    const parts: string[] = [];
    if (this.rules === null || !this.isOfModel(this.rules.version))
      parts.push(`the rules of revision ${revision} (classifier)`);
    if (this.paths === null || !this.isOfModel(this.paths.version))
      parts.push(`the paths of revision ${revision} (path-selector)`);
    return parts.length === 0 ? '' : `waiting for ${parts.join(' and ')}`;
  }
}

/** Chains may go through nodes that are attached elsewhere: those paths are never up here. A number that no node has is an error. */
function unknownNode(rows: readonly ChainRow[], model: GatewayModel): Taken | null {
  for (const row of rows) {
    for (const path of row.paths) {
      const node = path.nodes.find((number) => !model.nodeNumbers.has(number));
      if (node === undefined) continue;
      const why = `path ${path.number} goes through node ${node}, which revision ${model.revision} does not have`;
      return { ok: false, row: `chain ${row.name}`, why };
    }
  }
  return null;
}
