// SPDX-License-Identifier: Apache-2.0
// Unix sockets between processes of one machine, below the run directory that they share (DETOUR_RUN_DIR).

/** Where bfd serves its tunnel-gw: a gRPC address. */
export function bfdSocketAddress(runDir: string): string {
  return `unix:${runDir}/bfd.sock`;
}
