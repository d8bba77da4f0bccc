// SPDX-License-Identifier: Apache-2.0
// `make down`: stops what `make up` started, by its process ids, and takes programs, pins, devices, rules and the guard off this machine.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const runDir = process.env.DETOUR_RUN_DIR ?? '/run/detour';
const file = join(runDir, 'up.json');
if (!existsSync(file)) {
  process.stdout.write(`nothing is up (no ${file})\n`);
} else {
  const { started, pinDir } = JSON.parse(readFileSync(file, 'utf8'));
  for (const { name, pid } of [...started].reverse()) await stop(name, pid);
  rmSync(pinDir, { recursive: true, force: true });
  for (const family of ['-4', '-6']) {
    for (const rule of JSON.parse(
      execFileSync('ip', ['-N', '-j', family, 'rule', 'show'], { encoding: 'utf8' }),
    )) {
      if (!/^dtr\d+$/.test(rule.iif ?? '')) continue;
      const way = rule.table === undefined ? ['unreachable'] : ['lookup', rule.table];
      execFileSync('ip', [family, 'rule', 'del', 'priority', '0', 'iif', rule.iif, ...way]);
    }
  }
  for (const link of JSON.parse(execFileSync('ip', ['-j', 'link', 'show'], { encoding: 'utf8' }))) {
    if (link.ifalias === 'detour') execFileSync('ip', ['link', 'del', 'dev', link.ifname]);
  }
  execFileSync('nft', ['-f', '-'], { input: 'table inet detour_guard {}\ndelete table inet detour_guard\n' });
  rmSync(file);
  process.stdout.write(
    'stopped; programs, pins, devices, rules and the guard are gone. IP forwarding is left as it is.\n',
  );
}

async function stop(name, pid) {
  /** A process that has ended and that nobody has waited for yet counts as gone. */
  const alive = () => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      return stat[stat.lastIndexOf(')') + 2] !== 'Z';
    } catch {
      return false;
    }
  };
  if (alive()) process.kill(pid, 'SIGTERM');
  const end = Date.now() + 12_000;
  while (alive() && Date.now() < end) await new Promise((done) => setTimeout(done, 50));
  if (alive()) process.kill(pid, 'SIGKILL');
  process.stdout.write(`stopped ${name} (pid ${pid})\n`);
}
