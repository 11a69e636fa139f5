// The figures of an interval, from those of its bins. Everything adds up but peaks, of which the greatest
// counts; so all are exact.

// What can be looked at: its name, whether it is in bytes, and what it means.
const MEASURES = {
  bytes: { name: 'Allocated', bytes: true, text: 'bytes requested in the interval: its churn' },
  requests: { name: 'Requests', bytes: false, text: 'requests for memory in the interval' },
  temporary: {
    name: 'Temporary',
    bytes: false,
    text: 'blocks requested in the interval and freed before their thread’s next request',
  },
  kept: { name: 'Never freed', bytes: true, text: 'of the bytes requested in the interval' },
  released: { name: 'Freed', bytes: true, text: 'bytes freed in the interval, whenever requested' },
  live: { name: 'Live at end', bytes: true, text: 'bytes live at the end of the interval' },
  atPeak: { name: 'At peak', bytes: true, text: 'bytes live at the program’s peak in the interval' },
  peak: { name: 'Own peak', bytes: true, text: 'the most bytes of its own that were live at a time' },
};

const show = (measure, value) =>
  Number.isNaN(value) ? '–' : MEASURES[measure].bytes ? bytes(value) : count(value);

class Figures {
  constructor({ about, bins, axes }) {
    this.about = about;
    this.bins = bins;
    this.axes = axes;
    this.live = new Float64Array(bins.length + 1);
    for (let bin = 0; bin < bins.length; bin += 1) {
      this.live[bin + 1] = this.live[bin] + bins.bytes[bin] - bins.released[bin];
    }
    this.pick(0, bins.length);
  }

  // Looks at the bins from `from` to before `to`.
  pick(from, to) {
    const { bins } = this;
    this.from = from;
    this.to = to;
    this.cache = {};
    let peakBin = from;
    for (let bin = from + 1; bin < to; bin += 1) if (bins.peak[bin] > bins.peak[peakBin]) peakBin = bin;
    this.peakBin = peakBin;
    const total = {};
    for (const name of BIN_COLUMNS) {
      let sum = 0;
      for (let bin = from; bin < to; bin += 1) sum += bins[name][bin];
      total[name] = sum;
    }
    total.requests = total.allocations + total.zeroed + total.reallocations;
    total.peak = bins.peak[peakBin];
    total.peakAt = bins.peakAt[peakBin];
    total.atPeak = total.peak;
    total.live = this.live[to];
    this.total = total;
  }

  get isWhole() {
    return this.from === 0 && this.to === this.bins.length;
  }

  // The interval in nanoseconds, both ends included.
  get fromNs() {
    return this.from * this.about.bin_ns;
  }

  get toNs() {
    return this.to * this.about.bin_ns - 1;
  }

  // The figures of every row of an axis.
  of(name) {
    return (this.cache[name] ??= this.add(this.axes[name], name));
  }

  add(axis, name) {
    const { from, to, peakBin } = this;
    const out = { rows: axis.rows };
    for (const measure of Object.keys(MEASURES)) out[measure] = new Float64Array(axis.rows);
    out.keptBlocks = new Float64Array(axis.rows);
    for (let row = 0; row < axis.rows; row += 1) {
      let live = 0;
      let atPeak = -1;
      let peak = -1;
      for (let at = axis.starts[row]; at < axis.starts[row + 1]; at += 1) {
        const bin = axis.bin[at];
        if (bin >= to) break;
        if (atPeak < 0 && bin >= peakBin) atPeak = bin === peakBin ? axis.atPeak[at] : live;
        if (bin >= from) {
          out.bytes[row] += axis.bytes[at];
          out.requests[row] += axis.requests[at];
          out.temporary[row] += axis.temporary[at];
          out.kept[row] += axis.kept[at];
          out.keptBlocks[row] += axis.keptBlocks[at];
          out.released[row] += axis.released[at];
          peak = Math.max(peak < 0 ? live : peak, axis.peak[at]);
        }
        live += axis.bytes[at] - axis.released[at];
      }
      out.live[row] = live;
      out.atPeak[row] = atPeak < 0 ? live : atPeak;
      out.peak[row] = peak < 0 ? live : peak;
    }
    // How long a block lives is not known while it does.
    if (name === 'lifetime') for (const measure of ['atPeak', 'peak']) out[measure].fill(NaN);
    return out;
  }

  // What a row is called, and what is said below it.
  label(axis, row) {
    const { about } = this;
    const text = (number) => about.texts[number];
    switch (axis) {
      case 'site': {
        const [site, file, line] = about.sites[row];
        const place = file === null ? null : line === null ? text(file) : `${text(file)}:${line}`;
        return { name: text(site), detail: place };
      }
      case 'function': return { name: text(about.functions[row]) };
      case 'file': return { name: about.files[row] === null ? '[unknown file]' : text(about.files[row]) };
      case 'crate': return { name: about.crates[row] === null ? '[no crate]' : text(about.crates[row]) };
      case 'thread': {
        const [thread, name] = about.threads[row];
        if (thread === null) return { name: text(name) };
        return { name: name === null ? `thread ${thread}` : text(name), detail: `thread ${thread}` };
      }
      case 'span': {
        const span = about.spans[row];
        if (!span) return { name: '[outside of spans]' };
        const [name, target, fields] = span;
        const withFields = fields === null ? '' : `{${text(fields)}}`;
        return { name: text(name) + withFields, detail: text(target) };
      }
      case 'size': return { name: sizeRange(about.sizes[row]), order: about.sizes[row] };
      case 'lifetime': {
        const ns = about.lifetimes[row];
        return { name: ns === null ? 'never freed' : lifetimeRange(ns), order: ns ?? Infinity };
      }
      default: return { name: text(about.nodes[row]) };
    }
  }
}

function sizeRange(least) {
  if (least < 2) return bytes(least);
  return least === 2 ? '2 – 3 B' : `${bytes(least)} – ${least < 1024 ? `${2 * least - 1} B` : `<${bytes(2 * least)}`}`;
}

const lifetimeRange = (least) =>
  least === 0 ? 'under 100 ns' : `${brief(least)} – ${brief(nextLifetime(least))}`;

// The class that follows one.
const nextSize = (least) => least * 2 || 1;

const nextLifetime = (least) =>
  least === 0 ? 100 : String(least)[0] === '2' ? least * 2.5 : least * 2;

// A round time without the digits that say nothing.
const brief = (ns) => duration(ns).replace(/\.0+(?= )/, '');
