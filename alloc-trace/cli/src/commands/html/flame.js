// The flame graph: callers above what they called, as wide as their share.

const FLAME_MEASURES = ['bytes', 'requests', 'temporary', 'kept', 'released', 'live', 'atPeak'];
const LEVEL = 20;
const MOST_ELEMENTS = 6000;

class Flame {
  constructor(figures) {
    this.figures = figures;
    this.measure = 'bytes';
    this.zoom = -1;
    this.needle = '';
    this.view = byId('flame');
    this.callers = figures.about.callers;
    this.names = figures.about.nodes.map((number) => figures.about.texts[number]);
    this.shown = new Map();
    this.listen();
    this.width = 0;
    new ResizeObserver(() => {
      if (this.view.clientWidth > 0 && this.view.clientWidth !== this.width) this.draw();
    }).observe(this.view);
  }

  listen() {
    const select = byId('flame-measure');
    for (const measure of FLAME_MEASURES) {
      select.append(element('option', { value: measure }, MEASURES[measure].name));
    }
    select.addEventListener('change', () => {
      this.measure = select.value;
      this.draw();
    });
    byId('flame-search').addEventListener('input', (event) => this.find(event.target.value));
    byId('flame-reset').addEventListener('click', () => this.zoomTo(-1));
    const node = (event) => {
      const number = event.target.closest('[data-node]')?.dataset.node;
      return number === undefined ? null : Number(number);
    };
    this.view.addEventListener('click', (event) => {
      const number = node(event);
      if (number !== null) this.zoomTo(number);
    });
    for (const kind of ['pointerover', 'focusin']) {
      this.view.addEventListener(kind, (event) => {
        const number = node(event);
        if (number !== null) this.tell(number);
      });
    }
    this.view.addEventListener('keydown', (event) => {
      const number = node(event);
      if (number !== null) this.key(event, number);
    });
  }

  // Finds functions by a part of their name.
  find(needle) {
    byId('flame-search').value = needle;
    this.needle = needle.toLowerCase();
    this.draw();
  }

  zoomTo(node) {
    this.zoom = node;
    this.draw();
    this.view.querySelector(`[data-node="${node}"]`)?.focus();
  }

  // What every node and all below it have.
  inclusive() {
    const sums = Float64Array.from(this.figures.of('node')[this.measure]);
    for (let node = sums.length - 1; node >= 0; node -= 1) {
      if (this.callers[node] >= 0) sums[this.callers[node]] += sums[node];
    }
    return sums;
  }

  // The nodes below each, the greatest first; those without a caller at -1.
  children(sums) {
    const below = new Map();
    for (let node = 0; node < sums.length; node += 1) {
      if (sums[node] <= 0) continue;
      const caller = this.callers[node];
      if (below.has(caller)) below.get(caller).push(node);
      else below.set(caller, [node]);
    }
    for (const nodes of below.values()) nodes.sort((one, other) => sums[other] - sums[one]);
    return below;
  }

  draw() {
    this.width = this.view.clientWidth;
    if (this.width === 0) return;
    const sums = this.inclusive();
    const below = this.children(sums);
    this.sums = sums;
    this.below = below;
    this.total = (below.get(-1) ?? []).reduce((sum, node) => sum + sums[node], 0);
    if (this.zoom >= 0 && !(sums[this.zoom] > 0)) this.zoom = -1;
    const matches = this.matches();
    const made = [];
    this.shown.clear();
    const put = (node, left, width, level, above) => {
      const name = node < 0 ? 'all' : this.names[node];
      const value = node < 0 ? this.total : sums[node];
      const label = `${name}, ${show(this.measure, value)}, ${share(value, this.total)}`;
      const kind = [above && 'above', matches.has(node) && 'found', width < 20 && 'thin'].filter(Boolean).join(' ');
      const attributes = {
        role: 'treeitem', 'data-node': node, tabindex: -1, class: kind, 'aria-level': level + 1, 'aria-label': label,
        style: `left:${left.toFixed(2)}px;width:${width.toFixed(2)}px;top:${level * LEVEL}px;--hue:${hue(name)}`,
      };
      if (matches.has(node)) attributes['aria-selected'] = 'true';
      made.push(element('div', attributes, width < 20 ? '' : node < 0 ? 'all' : tail(name)));
      this.shown.set(node, made.at(-1));
    };
    const way = [];
    for (let node = this.zoom; node >= 0; node = this.callers[node]) way.unshift(node);
    way.unshift(-1);
    way.forEach((node, level) => put(node, 0, this.width, level, level + 1 < way.length));
    let deepest = way.length;
    const least = Math.max(0.6, this.width / MOST_ELEMENTS);
    const queue = [{ node: this.zoom, left: 0, width: this.width, level: way.length }];
    for (let next = 0; next < queue.length && made.length < MOST_ELEMENTS; next += 1) {
      const { node, left, width, level } = queue[next];
      const whole = node < 0 ? this.total : sums[node];
      let at = left;
      for (const child of below.get(node) ?? []) {
        const childWidth = whole ? (sums[child] / whole) * width : 0;
        if (childWidth < least) break;
        put(child, at, childWidth, level, false);
        queue.push({ node: child, left: at, width: childWidth, level: level + 1 });
        deepest = Math.max(deepest, level + 1);
        at += childWidth;
      }
    }
    this.view.style.height = `${deepest * LEVEL}px`;
    this.view.replaceChildren(...made);
    this.shown.get(this.zoom)?.setAttribute('tabindex', 0);
    this.tell(this.zoom);
  }

  // The nodes whose function is looked for; says how much they and all below have.
  matches() {
    const found = new Set();
    const status = byId('flame-found');
    if (!this.needle) {
      status.textContent = '';
      return found;
    }
    const names = new Map();
    const inside = new Uint8Array(this.names.length);
    let sum = 0;
    for (let node = 0; node < this.names.length; node += 1) {
      const name = this.names[node];
      if (!names.has(name)) names.set(name, name.toLowerCase().includes(this.needle));
      const caller = this.callers[node];
      inside[node] = caller >= 0 ? inside[caller] : 0;
      if (names.get(name) && this.sums[node] > 0) {
        found.add(node);
        // What lies within another match is in it already.
        if (!inside[node]) sum += this.sums[node];
        inside[node] = 1;
      }
    }
    status.textContent = `${counted(found.size, 'match').replace('matchs', 'matches')}: ${show(this.measure, sum)}, ${share(sum, this.total)}`;
    return found;
  }

  tell(node) {
    const value = node < 0 ? this.total : this.sums[node];
    const own = node < 0 ? 0 : this.figures.of('node')[this.measure][node];
    const name = node < 0 ? 'all' : this.names[node];
    const { text } = MEASURES[this.measure];
    byId('flame-detail').replaceChildren(
      element('strong', {}, show(this.measure, value)), ` ${share(value, this.total)}, ${show(this.measure, own)} of it itself (${text})`,
      element('br'), name,
    );
  }

  key(event, node) {
    const caller = node < 0 ? null : this.callers[node];
    const beside = caller === null ? [node] : this.below.get(caller) ?? [];
    const at = beside.indexOf(node);
    const steps = {
      ArrowUp: () => caller,
      ArrowDown: () => this.below.get(node)?.[0],
      ArrowLeft: () => beside[at - 1],
      ArrowRight: () => beside[at + 1],
    };
    if (event.key in steps) {
      const to = steps[event.key]();
      const shown = this.shown.get(to ?? null);
      if (shown) {
        for (const other of this.view.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
        shown.tabIndex = 0;
        shown.focus();
      }
    } else if (event.key === 'Enter' || event.key === ' ') this.zoomTo(node);
    else if (event.key === 'Escape') {
      this.zoomTo(-1);
      event.stopPropagation();
    } else return;
    event.preventDefault();
  }
}

// Functions of one crate have one colour.
function hue(name) {
  const crate = name.replace(/^[<&*[(]+/, '').split('::')[0];
  let hash = 7;
  for (const c of crate) hash = (hash * 31 + c.codePointAt(0)) % 3600;
  return (hash * 137) % 360;
}
