// The timeline: live bytes, what was requested in each bin, the resident memory, spans and markers; and
// the brush over it.

const MARGIN = { left: 82, right: 14, top: 22, bottom: 20 };
const LIVE_HEIGHT = 190;
const CHURN_HEIGHT = 46;
const RESIDENT_HEIGHT = 32;
const LANE_HEIGHT = 13;
const LANES = 6;
const MARKERS = 40;

class Timeline {
  // `pick` is told the interval that the user picks.
  constructor(figures, pick) {
    this.figures = figures;
    this.pick = pick;
    this.frame = byId('timeline');
    this.chart = byId('chart');
    this.handles = [byId('from'), byId('to')];
    this.lanes = this.spanLanes();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.frame);
  }

  get length() {
    return this.figures.bins.length;
  }

  // The spans that requested most, without what is outside of spans.
  spanLanes() {
    const axis = this.figures.axes.span;
    const rows = [];
    for (let row = 0; row < axis.rows; row += 1) {
      if (!this.figures.about.spans[row]) continue;
      let sum = 0;
      for (let at = axis.starts[row]; at < axis.starts[row + 1]; at += 1) sum += axis.bytes[at];
      rows.push({ row, sum });
    }
    this.spans = rows.length;
    return rows.sort((one, other) => other.sum - one.sum).slice(0, LANES).map(({ row }) => row);
  }

  x(bin) {
    return MARGIN.left + (bin / this.length) * this.plot;
  }

  binAt(clientX) {
    const left = this.frame.getBoundingClientRect().left;
    return ((clientX - left - MARGIN.left) / this.plot) * this.length;
  }

  draw() {
    const width = this.frame.clientWidth;
    if (width === 0) return;
    this.plot = Math.max(width - MARGIN.left - MARGIN.right, 50);
    const residentTop = MARGIN.top + LIVE_HEIGHT + 8 + CHURN_HEIGHT + 8;
    const strip = this.figures.about.resident.length > 0 ? RESIDENT_HEIGHT + 8 : 0;
    const lanesTop = residentTop + strip;
    this.height = lanesTop + this.lanes.length * LANE_HEIGHT + MARGIN.bottom;
    const svg = element('svg:svg', {
      width, height: this.height, viewBox: `0 0 ${width} ${this.height}`, 'aria-hidden': 'true',
    });
    this.drawLive(svg, width);
    this.drawChurn(svg);
    if (strip > 0) this.drawResident(svg, residentTop);
    this.drawLanes(svg, lanesTop);
    this.drawTimes(svg);
    this.drawMarkers(svg);
    this.outside = ['before', 'after'].map((id) => element('svg:rect', { class: 'outside', id, y: 0 }));
    this.inside = element('svg:rect', { class: 'inside', y: 1 });
    svg.append(...this.outside, this.inside);
    this.chart.replaceChildren(svg);
    this.describe();
    this.update();
  }

  drawLive(svg, width) {
    const { bins, live } = this.figures;
    const most = Math.max(...bins.peak, 1);
    const bottom = MARGIN.top + LIVE_HEIGHT;
    const y = (value) => bottom - (value / most) * LIVE_HEIGHT;
    for (const value of ticks(most)) {
      svg.append(
        element('svg:line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
        element('svg:text', { x: MARGIN.left - 6, y: y(value) + 4, 'text-anchor': 'end' }, bytes(value)),
      );
    }
    // Up to a bin's peak in its middle, and what is live at its edges.
    let path = `M${this.x(0)},${bottom}L${this.x(0)},${y(0)}`;
    for (let bin = 0; bin < bins.length; bin += 1) {
      path += `L${this.x(bin + 0.5).toFixed(1)},${y(bins.peak[bin]).toFixed(1)}`;
      path += `L${this.x(bin + 1).toFixed(1)},${y(live[bin + 1]).toFixed(1)}`;
    }
    svg.append(element('svg:path', { class: 'area', d: `${path}L${this.x(bins.length)},${bottom}Z` }));
    const peakBin = bins.peak.indexOf(Math.max(...bins.peak));
    const at = this.x(bins.peakAt[peakBin] / this.figures.about.bin_ns);
    const end = at > width - 220;
    svg.append(
      element('svg:circle', { class: 'peak', cx: at, cy: y(bins.peak[peakBin]), r: 4 }),
      element(
        'svg:text',
        { class: 'peak-text', x: at + (end ? -8 : 8), y: y(bins.peak[peakBin]) + 4, 'text-anchor': end ? 'end' : 'start' },
        `peak ${bytes(bins.peak[peakBin])} after ${duration(bins.peakAt[peakBin])}`,
      ),
    );
  }

  drawChurn(svg) {
    const { bins, about } = this.figures;
    const top = MARGIN.top + LIVE_HEIGHT + 8;
    const most = Math.max(...bins.bytes);
    let path = '';
    for (let bin = 0; bin < bins.length; bin += 1) {
      const height = (bins.bytes[bin] / most) * CHURN_HEIGHT;
      if (height > 0) {
        const [x, next] = [this.x(bin), this.x(bin + 1)];
        path += `M${x.toFixed(1)},${top + CHURN_HEIGHT}V${(top + CHURN_HEIGHT - Math.max(height, 0.5)).toFixed(1)}H${next.toFixed(1)}V${top + CHURN_HEIGHT}Z`;
      }
    }
    const rate = most / (about.bin_ns / 1e9);
    svg.append(
      element('svg:path', { class: 'churn', d: path }),
      element('svg:text', { x: MARGIN.left - 6, y: top + 10, 'text-anchor': 'end' }, 'allocated'),
      element('svg:text', { x: MARGIN.left - 6, y: top + 23, 'text-anchor': 'end' }, most > 0 ? `≤ ${bytes(Math.round(rate))}` : bytes(0)),
      element('svg:text', { x: MARGIN.left - 6, y: top + 36, 'text-anchor': 'end' }, 'a second'),
    );
  }

  // On a scale of its own. A sample holds until the next one.
  drawResident(svg, top) {
    const { resident } = this.figures.about;
    const most = Math.max(...resident.map(([, size]) => size), 1);
    const bottom = top + RESIDENT_HEIGHT;
    const y = (size) => (bottom - (size / most) * RESIDENT_HEIGHT).toFixed(1);
    let path = `M${this.x(resident[0][0] + 0.5).toFixed(1)},${y(resident[0][1])}`;
    for (const [bin, size] of resident.slice(1)) path += `H${this.x(bin + 0.5).toFixed(1)}V${y(size)}`;
    path += `H${this.x(this.length).toFixed(1)}`;
    svg.append(
      element('svg:path', { class: 'resident', d: path }),
      element('svg:text', { x: MARGIN.left - 6, y: top + 12, 'text-anchor': 'end' }, 'resident'),
      element('svg:text', { x: MARGIN.left - 6, y: top + 25, 'text-anchor': 'end' }, `≤ ${bytes(most)}`),
    );
  }

  drawLanes(svg, top) {
    const axis = this.figures.axes.span;
    this.lanes.forEach((row, lane) => {
      const y = top + lane * LANE_HEIGHT;
      svg.append(element('svg:rect', { class: 'lane-ground', x: MARGIN.left, y, width: this.plot, height: LANE_HEIGHT - 2 }));
      let most = 1;
      for (let at = axis.starts[row]; at < axis.starts[row + 1]; at += 1) most = Math.max(most, axis.requests[at]);
      for (let at = axis.starts[row]; at < axis.starts[row + 1]; at += 1) {
        if (axis.requests[at] === 0) continue;
        svg.append(element('svg:rect', {
          class: 'lane', x: this.x(axis.bin[at]).toFixed(1), y, height: LANE_HEIGHT - 2,
          width: Math.max(this.plot / this.length, 0.7).toFixed(2),
          'fill-opacity': (0.25 + 0.75 * Math.sqrt(axis.requests[at] / most)).toFixed(2),
        }));
      }
      const { name } = this.figures.label('span', row);
      const shown = name.length > 10 ? `${name.slice(0, 9)}…` : name;
      svg.append(element('svg:text', { x: MARGIN.left - 6, y: y + 9, 'text-anchor': 'end' }, shown, element('svg:title', {}, name)));
    });
    if (this.spans > this.lanes.length) {
      const shown = `${this.lanes.length} of ${count(this.spans)} spans`;
      svg.append(element('svg:text', { x: MARGIN.left - 6, y: this.height - 5, 'text-anchor': 'end' }, shown));
    }
  }

  drawTimes(svg) {
    const { about } = this.figures;
    const whole = this.length * about.bin_ns;
    for (const ns of ticks(whole, 1000)) {
      const x = this.x(ns / about.bin_ns);
      if (x > MARGIN.left + this.plot - 10) continue;
      svg.append(element('svg:text', { x, y: this.height - 5, 'text-anchor': ns === 0 ? 'start' : 'middle' }, brief(ns)));
    }
  }

  drawMarkers(svg) {
    const { about } = this.figures;
    let free = 0;
    for (const [text, ns] of about.markers.slice(0, MARKERS)) {
      const x = this.x(ns / about.bin_ns);
      svg.append(element('svg:line', { class: 'marker', x1: x, x2: x, y1: MARGIN.top, y2: this.height - MARGIN.bottom }));
      // A text is left out where it would lie on the one before.
      if (x < free) continue;
      const shown = text.length > 24 ? `${text.slice(0, 23)}…` : text;
      const end = x + shown.length * 6.2 > MARGIN.left + this.plot;
      svg.append(element('svg:text', { class: 'marker-text', x: end ? x - 3 : x + 3, y: 11, 'text-anchor': end ? 'end' : 'start' }, shown, element('svg:title', {}, text)));
      free = x + shown.length * 6.2 + 8;
    }
  }

  describe() {
    const { bins, about } = this.figures;
    const peak = Math.max(...bins.peak);
    const spans = this.lanes.map((row) => this.figures.label('span', row).name);
    const parts = [
      `Live bytes over ${duration(about.duration_ns)} in ${count(bins.length)} bins.`,
      `Peak ${bytes(peak)} after ${duration(bins.peakAt[bins.peak.indexOf(peak)])}.`,
      about.resident.length ? `Resident: at most ${bytes(Math.max(...about.resident.map(([, size]) => size)))}.` : '',
      spans.length ? `Spans: ${spans.join(', ')}${this.spans > spans.length ? `, of ${count(this.spans)}` : ''}.` : '',
      about.markers.length ? `Markers: ${about.markers.map(([text]) => text).join(', ')}.` : '',
    ];
    byId('timeline-text').textContent = parts.join(' ');
  }

  // Shows the interval that is picked.
  update() {
    if (!this.inside) return;
    const { figures } = this;
    const [left, right] = [this.x(figures.from), this.x(figures.to)];
    const place = (rect, x, width) => {
      for (const [name, value] of Object.entries({ x, width: Math.max(width, 0), height: this.height - MARGIN.bottom })) {
        rect.setAttribute(name, value);
      }
    };
    place(this.outside[0], MARGIN.left, left - MARGIN.left);
    place(this.outside[1], right, MARGIN.left + this.plot - right);
    place(this.inside, left, right - left);
    this.inside.style.display = figures.isWhole ? 'none' : '';
    const ends = [[figures.from, 0, figures.to - 1, left], [figures.to, figures.from + 1, this.length, right]];
    this.handles.forEach((handle, index) => {
      const [now, least, most, x] = ends[index];
      handle.style.left = `${x}px`;
      handle.style.height = `${this.height - MARGIN.bottom}px`;
      handle.setAttribute('aria-valuenow', now);
      handle.setAttribute('aria-valuemin', least);
      handle.setAttribute('aria-valuemax', most);
      handle.setAttribute('aria-valuetext', duration(now * figures.about.bin_ns));
    });
  }

  // From one place to another, in either order, out to the edges of bins.
  brush(one, other) {
    const [low, high] = one < other ? [one, other] : [other, one];
    const from = Math.min(Math.max(Math.floor(low), 0), this.length - 1);
    const to = Math.min(Math.max(Math.ceil(high), from + 1), this.length);
    this.pick(from, to);
  }

  listen() {
    let began = null;
    this.chart.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      began = this.binAt(event.clientX);
      this.chart.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    this.chart.addEventListener('pointermove', (event) => {
      if (began !== null) this.brush(began, this.binAt(event.clientX));
    });
    this.chart.addEventListener('pointerup', (event) => {
      if (began === null) return;
      this.brush(began, this.binAt(event.clientX));
      began = null;
    });
    this.chart.addEventListener('pointercancel', () => { began = null; });
    this.chart.addEventListener('dblclick', () => this.pick(0, this.length));
    this.handles.forEach((handle, index) => this.listenTo(handle, index));
  }

  listenTo(handle, index) {
    const move = (bin) => {
      const { from, to } = this.figures;
      if (index === 0) this.pick(Math.min(Math.max(bin, 0), to - 1), to);
      else this.pick(from, Math.min(Math.max(bin, from + 1), this.length));
    };
    let dragged = false;
    handle.addEventListener('pointerdown', (event) => {
      dragged = true;
      handle.setPointerCapture(event.pointerId);
    });
    handle.addEventListener('pointermove', (event) => {
      if (dragged) move(Math.round(this.binAt(event.clientX)));
    });
    for (const end of ['pointerup', 'pointercancel']) handle.addEventListener(end, () => { dragged = false; });
    handle.addEventListener('keydown', (event) => {
      const now = index === 0 ? this.figures.from : this.figures.to;
      const far = Math.max(Math.round(this.length / 20), 1);
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -far, PageUp: far };
      if (event.key in steps) move(now + steps[event.key]);
      else if (event.key === 'Home') move(0);
      else if (event.key === 'End') move(this.length);
      else return;
      event.preventDefault();
    });
  }
}

// Round values up to the greatest: powers of two of bytes, or 1, 2 and 5 times powers of `base` 1000.
function ticks(most, base = 1024) {
  const unit = base ** Math.floor(Math.log(Math.max(most, 1)) / Math.log(base));
  const steps = base === 1024
    ? [1, 2, 4, 8, 16, 32, 64, 128, 256]
    : [1, 2, 5, 10, 20, 50, 100, 200];
  const parts = base === 1024 ? 5 : 9;
  const smaller = most / unit < 4 ? unit / base : unit;
  const wanted = Math.max(smaller, 1);
  const step = steps.map((factor) => factor * wanted).find((size) => most / size <= parts) ?? unit;
  const out = [];
  for (let value = 0; value <= most && out.length < 50; value += step) out.push(value);
  return out;
}
