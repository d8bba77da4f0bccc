// SPDX-License-Identifier: Apache-2.0
// Pure tables: rules → rule look-up, weights → selection slots; the reference that the kernel's look-ups are tested against.

export { type CappedNode, capShares } from './cap-shares.js';
export {
  affinityOf,
  choosePath,
  type ExpandedChain,
  expandChain,
  type InUse,
  type PathState,
  type WeighedChain,
  weighChain,
} from './expand-chain.js';
export { heirsOf } from './heirs.js';
export { ImageRules, type ImageSource } from './image-rules.js';
export { copyLines, LINE_WORDS, type LineChanges } from './line-space.js';
export { type NextScore, nextScore, type ScoreSteps } from './next-score.js';
export { type NodeState, nextNodeState } from './node-state.js';
export { HISTORY_POLICIES, type HistoryPolicy, historySeed, PathHistory } from './path-history.js';
export { MAX_PATH_WEIGHT, type NodeWorth, type PathNodes, weighPaths } from './path-weights.js';
export { ReferenceRules } from './reference-rules.js';
export { roundScore } from './round-score.js';
export {
  applyDelta,
  canonicalRule,
  diffChains,
  diffRules,
  digestChains,
  digestRules,
  ruleDigests,
  shareRules,
  type TableDelta,
} from './rows.js';
export { RuleImage, type RuleImageOptions } from './rule-image.js';
export { type EitherWayMatch, lookupEitherWay, type RuleLookup } from './rule-lookup.js';
export { prefixMatches, type RuleMatch, type RuleVerdict } from './rule-match.js';
export { buildSelection, MAX_SLOTS, type Member, slotCount } from './selection.js';
export type { WholeScore } from './slow-start.js';
export { type KnownPath, validateChainRow, validateChains, validateSelection } from './validate-chains.js';
export { ruleValidator, type Validation, validateRules } from './validate-rules.js';
