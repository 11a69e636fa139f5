// Unpacks what the command line put into the page.

const BIN_COLUMNS = ['allocations', 'zeroed', 'reallocations', 'failed', 'frees', 'temporary', 'bytes',
  'released', 'releasedBlocks', 'kept', 'keptBlocks', 'peak', 'peakAt'];
const CELL_COLUMNS = ['bytes', 'requests', 'temporary', 'released', 'releasedBlocks', 'kept', 'keptBlocks',
  'peak', 'atPeak'];
const AXES = ['site', 'function', 'file', 'crate', 'thread', 'span', 'size', 'lifetime', 'node'];

function ofBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const packed = atob(text);
  const out = new Uint8Array(packed.length);
  for (let at = 0; at < packed.length; at += 1) out[at] = packed.charCodeAt(at);
  return out;
}

async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Reads numbers of seven bits a byte, the lowest first.
class Numbers {
  constructor(buffer) {
    this.buffer = buffer;
    this.at = 0;
  }

  next() {
    const { buffer } = this;
    let byte = buffer[this.at++];
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    let scale = 0x80;
    do {
      if (this.at >= buffer.length) throw new Error('the figures of this page are cut off');
      byte = buffer[this.at++];
      value += (byte & 0x7f) * scale;
      scale *= 0x80;
    } while (byte >= 0x80);
    return value;
  }

  column(length) {
    const column = new Float64Array(length);
    for (let at = 0; at < length; at += 1) column[at] = this.next();
    return column;
  }
}

function readBins(numbers) {
  const length = numbers.next();
  const bins = { length };
  for (const name of BIN_COLUMNS) bins[name] = numbers.column(length);
  return bins;
}

function readAxis(numbers) {
  const rows = numbers.next();
  const starts = new Uint32Array(rows + 1);
  for (let row = 0; row < rows; row += 1) starts[row + 1] = starts[row] + numbers.next();
  const length = starts[rows];
  const bin = new Uint32Array(length);
  for (let row = 0; row < rows; row += 1) {
    let before = 0;
    for (let at = starts[row]; at < starts[row + 1]; at += 1) {
      before += numbers.next();
      bin[at] = before;
    }
  }
  const axis = { rows, starts, bin };
  for (const name of CELL_COLUMNS) axis[name] = numbers.column(length);
  return axis;
}

// The description, the bins, and the axes by name.
async function unpack(text) {
  const buffer = await inflate(ofBase64(text.trim()));
  const numbers = new Numbers(buffer);
  const length = numbers.next();
  const json = new TextDecoder().decode(buffer.subarray(numbers.at, numbers.at + length));
  numbers.at += length;
  const about = JSON.parse(json);
  const bins = readBins(numbers);
  const axes = {};
  for (const name of AXES) axes[name] = readAxis(numbers);
  if (numbers.at !== buffer.length) throw new Error('the figures of this page do not fit together');
  return { about, bins, axes };
}
