// SPDX-License-Identifier: Apache-2.0
// The re-pin as Redis runs it: read, compare and write as one step on one key. The order of records is that of `winnerOf`.

/**
 * KEYS[1] the flow; ARGV: record, ttl in seconds, expected generation. Answers nil when written, else the record that stays.
 * A value that is no record is replaced.
 */
export const REPIN_LUA = `
local RANK = {['4'] = 6, ['5'] = 5, ['0'] = 4, ['1'] = 3, ['2'] = 2, ['3'] = 1}
local function parts(text)
  local gen, path, flags = string.match(text, '^(%d+)|(%d+)|%d+|([0-5])$')
  if gen then return {tonumber(gen), -tonumber(path), RANK[flags]} end
end
local text = redis.call('GET', KEYS[1])
if text and text ~= ARGV[1] then
  local held = parts(text)
  if held then
    if held[1] ~= tonumber(ARGV[3]) then return text end
    local ours = parts(ARGV[1])
    for i = 1, 3 do
      if ours[i] < held[i] then return text end
      if ours[i] > held[i] then break end
    end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return nil
`;
