// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fault } from '@detour/core';
import { describe, expect, it } from 'vitest';
import {
  ensureBpffs,
  type Feature,
  probeBpffs,
  probeFeatures,
  probeFibLookupByTable,
  probeHelper,
  probeKernelStruct,
  probeKernelVersion,
  probeMapType,
  probePrivileges,
  probeProgType,
  requireFeatures,
} from './index.js';

const XDP = 6;
const SCHED_CLS = 3;
const FIB_LOOKUP = 69;
const SKB_STORE_BYTES = 9;

function faultOf(features: readonly Feature[]): Fault {
  try {
    requireFeatures(features);
  } catch (error) {
    if (error instanceof Fault) return error;
  }
  throw new Error('nothing was missing');
}

/** Whether the kernel's own BTF has this name. */
function kernelNames(name: string): boolean {
  return readFileSync('/sys/kernel/btf/vmlinux').includes(`\0${name}\0`);
}

describe('probes', () => {
  it('find helpers, and refuse ones that do not exist or that a program type may not call', () => {
    expect(probeHelper(XDP, FIB_LOOKUP)).toMatchObject({ present: true });
    expect(probeHelper(SCHED_CLS, SKB_STORE_BYTES)).toMatchObject({ present: true });
    expect(probeHelper(XDP, SKB_STORE_BYTES)).toMatchObject({
      present: false,
      detail: expect.stringMatching(/func|helper/),
    });
    expect(probeHelper(XDP, 99_999)).toMatchObject({
      present: false,
      detail: expect.stringMatching(/invalid func/),
    });
    expect(probeHelper(999, FIB_LOOKUP)).toMatchObject({
      present: false,
      detail: 'program type 999 is unknown',
    });
  });

  it('find map types, program types and structures', () => {
    expect([probeMapType(27).present, probeMapType(9999).present]).toEqual([true, false]);
    expect([probeProgType(XDP).present, probeProgType(9999).present]).toEqual([true, false]);
    expect(probeKernelStruct('bpf_xdp_link').present).toBe(true);
    expect(probeKernelStruct('geneve_dev')).toMatchObject({
      present: false,
      detail: 'not in the kernel BTF',
    });
  });

  it('read the kernel version', () => {
    expect(['6.1.0-18-amd64', '6.18.44', '7.0'].map((v) => probeKernelVersion(v).present)).toEqual([
      true,
      true,
      true,
    ]);
    expect(['6.0.19', '5.15.0', 'strange'].map((v) => probeKernelVersion(v).present)).toEqual([
      false,
      false,
      false,
    ]);
  });

  it('read privileges, of this process and of one that has none', () => {
    const unprivileged = execFileSync('setpriv', [
      '--reuid=65534',
      '--regid=65534',
      '--clear-groups',
      'cat',
      '/proc/self/status',
    ]);
    const none = probePrivileges(unprivileged.toString());
    expect(none).toMatchObject({
      present: false,
      detail: 'missing CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW',
    });
    expect(faultOf([none])).toMatchObject({
      code: 'permission',
      detail: expect.stringMatching(/run as root/),
    });
    expect(probePrivileges('CapEff:\t0000000000203000\n').present).toBe(true); // SYS_ADMIN instead of BPF and PERFMON
  });

  it('find what a gateway needs on this machine, and whether tables can be looked up by their ids', () => {
    const directory = mkdtempSync(join(tmpdir(), 'detour-bpffs-'));
    try {
      const features = probeFeatures({ bpffs: directory });
      expect(features.filter((feature) => !feature.present).map(({ feature }) => feature)).toEqual([
        `bpffs at ${directory}`,
      ]);
      expect(features).toHaveLength(8);
      const byTable = probeFibLookupByTable();
      expect(byTable.detail).toMatch(/^(answers \d+|EINVAL.*)$/);
      const [major = 0, minor = 0] = execFileSync('uname', ['-r']).toString().split('.').map(Number);
      if (major > 6 || (major === 6 && minor >= 6)) expect(byTable.present).toBe(true);
      else expect(byTable.present).toBe(kernelNames('BPF_FIB_LOOKUP_TBID')); // later builds of 6.1 have it
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe('requireFeatures', () => {
  it('names every missing one with its remedy, in one Fault', () => {
    const fault = faultOf([probeMapType(27), probeHelper(XDP, 99_999), probeKernelStruct('geneve_dev')]);
    expect(fault.code).toBe('missing_feature');
    expect(fault.detail).toMatch(
      /helper 99999 for program type 6 \(invalid func.*\): run a kernel.*kernel struct geneve_dev/s,
    );
    expect(fault.detail).not.toContain('map type 27');
    expect(() => requireFeatures([probeMapType(27)])).not.toThrow();
  });
});

describe('ensureBpffs', () => {
  it('mounts where there is none, leaves one alone, makes directories on it', () => {
    const directory = mkdtempSync(join(tmpdir(), 'detour-bpffs-'));
    const mountpoint = join(directory, 'bpf');
    try {
      expect(ensureBpffs(mountpoint)).toBe(true);
      expect(statfsSync(mountpoint).type).toBe(0xcafe4a11);
      expect(ensureBpffs(mountpoint)).toBe(false);
      expect(ensureBpffs(join(mountpoint, 'detour/one'))).toBe(false);
      expect(probeBpffs(join(mountpoint, 'detour/two')).present).toBe(true);
      expect(() => ensureBpffs(join(mountpoint, 'v1.2'))).toThrow(/names have no dots/);
    } finally {
      execFileSync('umount', [mountpoint]);
      rmSync(directory, { recursive: true });
    }
  });
});
