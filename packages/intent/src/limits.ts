// SPDX-License-Identifier: Apache-2.0
/** The bounds that a document is checked against, so that what `check` accepts fits every table. */

/** Largest numbers of each kind; number 0 means "none" in every table. */
export const NUMBER_LIMITS = {
  vrfs: 4095,
  services: 4094,
  nodes: 4094,
  chains: 63,
  paths: 16_382,
  rules: 131_071,
  policies: 131_071,
  /** Of one gateway or host. */
  ports: 254,
} as const;

/** Most hops of one chain. */
export const MAX_CHAIN_HOPS = 8;
/** Most paths of one chain: the product of the nodes of its hops. */
export const MAX_CHAIN_PATHS = 1024;
/** Longest name of a Linux network device (IFNAMSIZ less its NUL). */
export const MAX_DEVICE_NAME = 15;
/** Longest document in characters. */
export const MAX_DOCUMENT_CHARS = 64 * 1024 * 1024;
/** Most problems that one check reports; a last one says how many more there are. */
export const MAX_PROBLEMS = 1000;
