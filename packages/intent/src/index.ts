// SPDX-License-Identifier: Apache-2.0
/** The intent document: schema, defaults, errors with positions, canonical form, diff, numbers and stored revisions. */

export { canonicalJson, canonicalText, fromDocument, sha256Hex, toDocument } from './canonical.js';
export { diffIntent, type RowChange } from './diff.js';
export { evaluateExpression, namesIn } from './expression.js';
export {
  CONNECTION_ATTRIBUTES,
  type ConnectionAttribute,
  DEFAULT_FORMULA,
  evaluateFormula,
  FORMULA_ATTRIBUTES,
  type Formula,
  type FormulaAttribute,
  type FormulaResult,
  MEASURED_ATTRIBUTES,
  parseFormula,
} from './formula.js';
export { jsonSchemaText } from './json-schema.js';
export { MAX_CHAIN_HOPS, MAX_CHAIN_PATHS, NUMBER_LIMITS } from './limits.js';
export { type PortRange, PROTOCOL_NUMBERS, protocolName } from './match-scalar.js';
export { type MetricExpression, type MetricSum, parseMetricExpression } from './metric-expression.js';
export { nearestWord } from './nearest.js';
export {
  type NumberKind,
  type NumberProblem,
  type NumberResult,
  type Numbers,
  numberIntent,
} from './numbers.js';
export { type ParseMode, type ParseResult, parseIntent } from './parse.js';
export { formatProblem, type Problem, type ProblemCode, type RowRef } from './problem.js';
export {
  decodeRevision,
  encodeRevision,
  newSelectionKey,
  type Revision,
  type RevisionName,
  type RevisionResult,
} from './revision.js';
export type { AddressRef } from './scalar.js';
export {
  API_VERSION,
  type Attach,
  type Chain,
  type Gateway,
  type Group,
  type Guest,
  type HealthProfile,
  type Host,
  type Intent,
  type IntentDocument,
  type Match,
  type Port,
  type Rule,
  type Scoring,
  SECTIONS,
  type Section,
  type Service,
  type ServiceNode,
  type Vrf,
} from './schema.js';
export type { Hop, OnFailure, PortRef, RuleAction } from './schema-chain.js';
export { hasLevel, levelledName, type SteeredChain, scoringOf, steeredChains } from './steered-chains.js';
export {
  type ChainPath,
  chainKey,
  gatewaysOfNode,
  guestsOfGroup,
  isBlind,
  nodeKey,
  nodeLabel,
  nodesOfHops,
  pathKey,
  pathsOfChain,
  policyKey,
  type ResolvedSide,
  resolveSide,
  vrfsOfChain,
  vrfsOfNode,
} from './topology.js';
