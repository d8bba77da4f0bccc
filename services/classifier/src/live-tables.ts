// SPDX-License-Identifier: Apache-2.0
/** The rule tables of the revision in force: one per gateway that asks, built and compiled once per revision. */
import type { RuleRow, TableVersion } from '@detour/contracts';
import type { Revision } from '@detour/intent';
import { diffRules, RuleImage, ruleValidator, shareRules } from '@detour/tables';
import type { LiveRules } from './classify.js';
import { buildRuleRows } from './rule-rows.js';

/** One gateway's table, ready to be asked and to be sent. */
export interface GatewayTable extends LiveRules {
  readonly rows: readonly RuleRow[];
  /** What `rules` reads; it goes on to the table's next version, which then answers for this one too. */
  readonly image: RuleImage;
}

/** A rule that leads nowhere, as an alarm tells it. */
export interface UnresolvedRule {
  readonly rule: string;
  readonly chain: string;
}

/** Most gateways whose tables are held; names come over the wire. */
const MAX_GATEWAYS = 1024;

export class LiveTables {
  #revision: Revision | null = null;
  #version: TableVersion | null = null;
  #tables = new Map<string, GatewayTable>();
  readonly #validate = ruleValidator();

  /** The version in force; null before the first. */
  get version(): TableVersion | null {
    return this.#version;
  }

  /** Puts a revision into force. A sentence if its tables may not be published: then the old ones stay. */
  apply(revision: Revision, version: TableVersion): string | null {
    const gateways = [...revision.intent.gateways, ...revision.intent.hosts].map(({ name }) => name);
    const valid = new Map<string, readonly RuleRow[]>();
    for (const gateway of gateways.slice(0, MAX_GATEWAYS)) {
      const rows = shareRules(this.#tables.get(gateway)?.rows ?? [], buildRuleRows(revision, gateway));
      const checked = this.#validate(rows);
      if (!checked.ok) return `${gateway}: ${checked.row}: ${checked.why}`;
      valid.set(gateway, rows);
    }
    // Nothing is refused from here on: images of the tables in force may change.
    const tables = new Map<string, GatewayTable>();
    for (const [gateway, rows] of valid) {
      const before = this.#tables.get(gateway);
      if (before !== undefined) tables.set(gateway, compile(rows, version, before));
    }
    this.#revision = revision;
    this.#version = version;
    this.#tables = tables;
    return null;
  }

  /** The table of one gateway; null before the first revision. A gateway that the intent does not name gets what applies everywhere. */
  tableOf(gateway: string): GatewayTable | null {
    if (this.#revision === null || this.#version === null) return null;
    const held = this.#tables.get(gateway);
    if (held !== undefined) return held;
    const rows = buildRuleRows(this.#revision, gateway);
    const table = compile(rows, this.#version);
    if (this.#tables.size < MAX_GATEWAYS) this.#tables.set(gateway, table);
    return table;
  }

  /** Rules whose chain does not exist, over all gateways. */
  unresolved(): UnresolvedRule[] {
    const { intent } = this.#revision ?? {};
    if (intent === undefined) return [];
    const chains = new Set(intent.chains.map(({ name }) => name));
    return intent.rules.flatMap(({ name, action }) =>
      action.kind === 'chain' && !chains.has(action.chain) ? [{ rule: name, chain: action.chain }] : [],
    );
  }
}

function compile(rows: readonly RuleRow[], version: TableVersion, before?: GatewayTable): GatewayTable {
  const image = before?.image ?? new RuleImage();
  image.apply(diffRules(before?.rows ?? [], rows));
  return { rows, version, image, rules: image.rules() };
}
