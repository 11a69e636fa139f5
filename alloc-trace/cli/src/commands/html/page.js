// Puts the page together: what the user picks goes to every part of it.

const TABS = ['table', 'flame', 'histogram', 'advice'];

class Page {
  constructor(unpacked) {
    this.figures = new Figures(unpacked);
    const search = (name) => {
      this.openTab('flame');
      this.flame.zoom = -1;
      this.flame.find(name);
      byId('flame-search').focus();
    };
    this.timeline = new Timeline(this.figures, (from, to) => this.pick(from, to));
    this.table = new Table(this.figures, search);
    this.flame = new Flame(this.figures);
    this.histogram = new Histogram(this.figures);
    drawAdvice(this.figures.about, search);
    this.describe();
    this.listen();
    this.timeline.draw();
    this.openTab('table');
    this.draw();
  }

  // What is said of the recording, whatever is picked.
  describe() {
    const { about, bins } = this.figures;
    const { program } = about;
    byId('command').textContent = program ? program.arguments.join(' ') || program.executable : about.file;
    const started = about.started_at_unix_ns > 0
      ? new Date(about.started_at_unix_ns / 1e6).toLocaleString() : null;
    const of = (value, singular) => (value > 0 ? counted(value, singular) : null);
    const unmatched = of(about.unmatched_frees, 'free');
    const facts = [
      about.filtered ? 'only of what the filters pick' : null,
      program ? `process ${program.pid}` : null,
      started,
      duration(about.duration_ns),
      counted(about.events, 'heap event'),
      counted(about.threads.length, 'thread'),
      unmatched && `${unmatched} of blocks older than the recording`,
    ];
    byId('facts').textContent = facts.filter(Boolean).join(' · ');
    const warnings = [...about.warnings, ...about.symbol_problems];
    byId('warnings').replaceChildren(...warnings.map((text) => element('li', {}, text)));
    byId('grain').textContent = `It snaps to ${counted(bins.length, 'bin')} of ${duration(about.bin_ns)}.`;
    const markers = byId('marker');
    for (const [text, ns] of about.markers) markers.append(element('option', { value: ns }, `${text} (${duration(ns)})`));
    markers.closest('label').hidden = about.markers.length === 0;
  }

  listen() {
    const { figures } = this;
    const { length } = figures.bins;
    const peakBin = () => figures.bins.peak.indexOf(Math.max(...figures.bins.peak));
    byId('whole').addEventListener('click', () => this.pick(0, length));
    byId('to-peak').addEventListener('click', () => this.pick(0, peakBin() + 1));
    byId('from-peak').addEventListener('click', () => this.pick(peakBin(), length));
    byId('marker').addEventListener('change', (event) => {
      const bin = Math.floor(Number(event.target.value) / figures.about.bin_ns);
      if (event.target.value !== '') this.pick(Math.min(bin, length - 1), length);
      event.target.value = '';
    });
    document.addEventListener('keydown', (event) => {
      const typing = event.target.matches?.('input, select');
      if (event.key === 'Escape' && !typing) this.pick(0, length);
    });
    byId('theme').addEventListener('click', () => {
      const dark = matchMedia('(prefers-color-scheme: dark)').matches;
      const { style } = document.documentElement;
      const now = style.colorScheme || (dark ? 'dark' : 'light');
      style.colorScheme = now === 'dark' ? 'light' : 'dark';
    });
    TABS.forEach((name, index) => {
      const tab = byId(`tab-${name}`);
      tab.addEventListener('click', () => this.openTab(name));
      tab.addEventListener('keydown', (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = TABS[(index + step + TABS.length) % TABS.length];
        this.openTab(next);
        byId(`tab-${next}`).focus();
      });
    });
  }

  openTab(name) {
    this.tab = name;
    for (const other of TABS) {
      const chosen = other === name;
      byId(`tab-${other}`).setAttribute('aria-selected', chosen);
      byId(`tab-${other}`).tabIndex = chosen ? 0 : -1;
      byId(`panel-${other}`).hidden = !chosen;
    }
    this.drawTab();
  }

  pick(from, to) {
    if (from === this.figures.from && to === this.figures.to) return;
    this.figures.pick(from, to);
    this.timeline.update();
    // Several in one frame are drawn once.
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = undefined;
      this.draw();
    });
  }

  draw() {
    this.drawInterval();
    this.drawTab();
  }

  // What nobody sees is drawn when it is opened.
  drawTab() {
    if (this.tab === 'advice') return;
    this[this.tab]?.draw();
  }

  drawInterval() {
    const { figures } = this;
    const { about, total } = figures;
    const length = (figures.to - figures.from) * about.bin_ns;
    byId('interval').textContent = figures.isWhole
      ? `whole recording, ${duration(about.duration_ns)}`
      : `${duration(figures.fromNs)} – ${duration(figures.toNs + 1)} (${duration(length)})`;
    const tile = (name, measure, value, small) => element('div', { 'data-measure': measure, 'data-value': value },
      element('dt', {}, name), element('dd', {}, measure === 'temporary' ? count(value) : bytes(value), element('small', {}, small)));
    byId('tiles').replaceChildren(
      tile('Allocated', 'bytes', total.bytes, `in ${counted(total.requests, 'request')}`),
      tile('Freed', 'released', total.released, counted(total.releasedBlocks, 'block')),
      tile('Peak', 'peak', total.peak, `after ${duration(total.peakAt)}`),
      tile('Live at end', 'live', total.live, figures.isWhole ? 'of the recording' : 'of the interval'),
      tile('Temporary', 'temporary', total.temporary, `${share(total.temporary, total.requests)} of the requests`),
      tile('Never freed', 'kept', total.kept, counted(total.keptBlocks, 'block')),
    );
    const file = /^[\w./+-]+$/.test(about.file) ? about.file : `'${about.file.replaceAll("'", "'\\''")}'`;
    const command = `alloc-trace report ${file} --from ${figures.fromNs}ns --to ${figures.toNs}ns`;
    // Filters that the page was made with would have to be repeated there.
    byId('same').replaceChildren(
      ...(figures.isWhole || about.filtered ? [] : ['What was allocated here, and what became of it: ', element('code', {}, command)]),
    );
  }
}

function fail(error) {
  byId('failure').hidden = false;
  byId('failure').textContent = `This page cannot be shown: ${error.message ?? error}`;
  throw error;
}

unpack(byId('data').textContent)
  .then((unpacked) => {
    new Page(unpacked);
    performance.mark('ready');
    document.documentElement.dataset.state = 'ready';
  })
  .catch(fail);
