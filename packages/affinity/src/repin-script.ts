// SPDX-License-Identifier: Apache-2.0
// The re-pin as Redis runs it: read, compare and write as one step on one key.

/**
 * KEYS[1] the flow; ARGV: record, ttl in seconds, expected generation, the record's generation and path. Answers false when written,
 * else the record that stays. A value that is no record is replaced.
 */
export const REPIN_LUA = `
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then
  local gen, path = string.match(held, '^(%d+)|(%d+)|%d+|[01]$')
  if gen then
    gen = tonumber(gen)
    if gen ~= tonumber(ARGV[3]) then return held end
    local newGen = tonumber(ARGV[4])
    if newGen < gen or (newGen == gen and tonumber(ARGV[5]) >= tonumber(path)) then return held end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return false
`;
