// Numbers as a person reads them, in the same words as the command line's.

const ofDigits = (value) =>
  value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : value.toFixed(0);

function bytes(value) {
  if (value < 1024) return `${value} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let unit = 0;
  value /= 1024;
  while (value >= 1023.5 && unit + 1 < units.length) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 99.95 ? value.toFixed(1) : value.toFixed(0)} ${units[unit]}`;
}

function duration(ns) {
  if (ns < 1000) return `${ns} ns`;
  const units = ['µs', 'ms', 's'];
  let value = ns / 1000;
  let unit = 0;
  while (value >= 999.5 && unit + 1 < units.length) {
    value /= 1000;
    unit += 1;
  }
  return `${ofDigits(value)} ${units[unit]}`;
}

const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ',');

const counted = (value, singular) => `${count(value)} ${singular}${value === 1 ? '' : 's'}`;

const share = (part, whole) => `${(whole ? (part * 100) / whole : 0).toFixed(1)} %`;

// A function's name without its generic arguments.
function withoutGenerics(name) {
  let out = '';
  let depth = 0;
  for (let at = 0; at < name.length; at += 1) {
    const c = name[at];
    const before = name[at - 1] ?? '';
    if (c === '<' && (depth > 0 || /[\w:}]/.test(before))) depth += 1;
    else if (c === '>' && depth > 0 && before !== '-') depth -= 1;
    else if (depth === 0) out += c;
  }
  return out.replace(/::(?=::|$)/g, '').replace(/ as [\w:]*::/g, ' as ');
}

// What fits on a flame graph: the function and the module or type that it is in.
function tail(name) {
  const plain = withoutGenerics(name);
  const of = /^<(.*) as (.*)>::(.*)$/.exec(plain);
  if (of) return `<${of[1].split('::').at(-1)} as ${of[2]}>::${of[3]}`;
  return plain.split('::').slice(-2).join('::');
}

// An element, its attributes, and what is in it: texts are texts, never markup.
function element(tag, attributes = {}, ...children) {
  const namespace = tag.startsWith('svg:') ? 'http://www.w3.org/2000/svg' : null;
  const made = namespace
    ? document.createElementNS(namespace, tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'on') for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const byId = (id) => document.getElementById(id);
