// SPDX-License-Identifier: Apache-2.0
// The tables as controllers sent them: each is held as it arrives, and brought into force only together with the other table and the intent of
// the same revision. What a gateway can check beyond the streams' own checks is checked here, by name; a refusal leaves what was held, also
// one that comes when the datapath is written.
import type { ChainRow, RuleRow, TableVersion } from '@detour/contracts';
import { type KnownPath, ruleValidator, type Validation, validateChains } from '@detour/tables';
import type { KeptSet } from './kept-tables.js';
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
  readonly ruleRows: readonly RuleRow[];
  readonly chains: readonly ChainRow[];
  readonly rulesVersion: TableVersion;
  readonly pathsVersion: TableVersion;
}

export class TableBook {
  private readonly validate: (rows: readonly RuleRow[]) => Validation = ruleValidator();
  private model: GatewayModel | null = null;
  private epoch = '';
  private rules: Held<RuleRow> | null = null;
  private paths: Held<ChainRow> | null = null;
  private refused = '';
  /** The rows before the last ones that were taken. */
  private before: { rules: Held<RuleRow> | null; paths: Held<ChainRow> | null } = {
    rules: null,
    paths: null,
  };

  /**
   * `epoch` of the bucket whose head names the revision: after a loss of that bucket, revisions count from 1 again. Paths of this revision
   * that came before it were checked without it: the check is made good, and what fails is not held.
   */
  offerModel(model: GatewayModel, epoch: string): void {
    this.model = model;
    this.epoch = epoch;
    const { paths } = this;
    if (paths === null || !this.isOfModel(paths.version)) return;
    const checked = validateChains(paths.rows, this.knownPaths(paths.version));
    this.refused = checked.ok ? '' : `${checked.row}: ${checked.why}`;
    if (!checked.ok) this.paths = null;
  }

  offerRules(rows: readonly RuleRow[], version: TableVersion): Taken {
    const checked = this.validate(rows);
    if (!checked.ok) return checked;
    this.before = { rules: this.rules, paths: this.paths };
    this.rules = { rows, version };
    return { ok: true };
  }

  offerPaths(rows: readonly ChainRow[], version: TableVersion): Taken {
    const checked = validateChains(rows, this.knownPaths(version));
    if (!checked.ok) return checked;
    this.before = { rules: this.rules, paths: this.paths };
    this.paths = { rows, version };
    return { ok: true };
  }

  /** The rows that were taken last could not be brought into force: those before count again. */
  takeBack(why: string): Taken {
    this.rules = this.before.rules;
    this.paths = this.before.paths;
    return { ok: false, row: '', why };
  }

  /**
   * Tables that a predecessor kept, for what has not come since start. False when there is nothing for them to do here: controllers have
   * said otherwise meanwhile. `model`: of the kept revision.
   */
  offerKept(model: GatewayModel, { epoch, rules, paths }: Omit<KeptSet, 'revision'>): boolean {
    if (this.complete() !== null) return false;
    if (this.model !== null && (this.model.revision !== model.revision || this.epoch !== epoch)) return false;
    const held = { model: this.model, epoch: this.epoch, rules: this.rules, paths: this.paths };
    if (this.model === null) this.offerModel(model, epoch);
    const taken =
      (this.rules !== null || this.offerRules(rules.rows, rules.version).ok) &&
      (this.paths !== null || this.offerPaths(paths.rows, paths.version).ok);
    if (taken && this.complete() !== null) return true;
    Object.assign(this, held);
    return false;
  }

  /** Everything of one revision, or null while parts of it are still on their way. */
  complete(): TableSet | null {
    const { model, rules, paths } = this;
    if (model === null || rules === null || paths === null) return null;
    if (!this.isOfModel(rules.version) || !this.isOfModel(paths.version)) return null;
    return {
      model,
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
      parts.push(
        `the paths of revision ${revision} (path-selector)${this.refused && `; refused: ${this.refused}`}`,
      );
    return parts.length === 0 ? '' : `waiting for ${parts.join(' and ')}`;
  }

  /** Chains may go through nodes that are attached elsewhere: those paths are never up here. A path that no chain has is an error. */
  private knownPaths(version: TableVersion): KnownPath | undefined {
    const { model } = this;
    return model !== null && this.isOfModel(version) ? (path) => model.pathNodes.get(path) : undefined;
  }
}
