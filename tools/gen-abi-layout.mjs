// SPDX-License-Identifier: Apache-2.0
// Reads bpftool's BTF dump into the structs and enums that abi.h declares, in the order in which it declares them.
//
// A field is { name, at, kind, ... } with kind one of: uint (bits, big, signed), array (of a uint; count), struct (type; count?).

const BIG_ENDIAN = /^__be(16|32|64)$/;

/** @returns {{ structs: object[], enums: object[] }} */
export function readLayout(types) {
  const byId = new Map(types.map((type) => [type.id, type]));
  const structs = types.filter((type) => type.kind === 'STRUCT').map((type) => readStruct(type, byId));
  const enums = types.filter((type) => type.kind === 'ENUM' || type.kind === 'ENUM64').map(readEnum);
  const names = [...structs, ...enums].map((type) => pascal(type.name));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new Error(`abi.h: two types become ${twice} in TypeScript; rename one`);
  return { structs: orderByUse(structs), enums };
}

function readEnum(type) {
  if (type.name === '(anon)') throw new Error('abi.h: an enum without a name; name it');
  return { name: type.name, values: type.values.map(({ name, val }) => ({ name, value: val })) };
}

function readStruct(type, byId) {
  const fields = type.members.map((member) => {
    const where = `${type.name}.${member.name}`;
    if (member.bitfield_size) throw new Error(`abi.h: ${where} is a bit-field; use a mask`);
    return { name: member.name, at: member.bits_offset / 8, ...readType(member.type_id, byId, where) };
  });
  return { name: type.name, size: type.size, fields };
}

function readType(id, byId, where, big = false) {
  const type = byId.get(id);
  switch (type?.kind) {
    case 'TYPEDEF':
      return readType(type.type_id, byId, where, big || BIG_ENDIAN.test(type.name));
    case 'CONST':
    case 'VOLATILE':
      return readType(type.type_id, byId, where, big);
    case 'INT':
      return {
        kind: 'uint',
        bits: type.nr_bits,
        size: type.size,
        signed: type.encoding.includes('SIGNED'),
        big,
      };
    case 'ENUM':
      return { kind: 'uint', bits: type.size * 8, size: type.size, signed: false, big };
    case 'STRUCT':
      return { kind: 'struct', type: type.name, size: type.size };
    case 'ARRAY': {
      const element = readType(type.type_id, byId, where, big);
      if (element.kind === 'array' || element.count !== undefined)
        throw new Error(`abi.h: ${where} is an array of arrays`);
      if (element.big) throw new Error(`abi.h: ${where} is an array in network order; use bytes`);
      if (element.kind === 'struct') return { ...element, count: type.nr_elems };
      return {
        kind: 'array',
        bits: element.bits,
        signed: element.signed,
        size: element.size * type.nr_elems,
        count: type.nr_elems,
      };
    }
    default:
      throw new Error(`abi.h: ${where} is a ${type?.kind ?? 'missing type'}, which has no TypeScript form`);
  }
}

/** A struct after those that it contains, otherwise as declared. */
function orderByUse(structs) {
  const done = [];
  const visit = (struct) => {
    if (done.includes(struct)) return;
    for (const field of struct.fields) {
      const inner = field.kind === 'struct' && structs.find((candidate) => candidate.name === field.type);
      if (inner) visit(inner);
    }
    done.push(struct);
  };
  structs.forEach(visit);
  return done;
}

/** flow_key -> FlowKey */
export function pascal(name) {
  return name
    .split('_')
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('');
}

/** created_ns -> createdNs */
export function camel(name) {
  const whole = pascal(name);
  return whole.charAt(0).toLowerCase() + whole.slice(1);
}
