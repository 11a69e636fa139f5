// How large blocks are and how long they live.

const HISTOGRAM_MEASURES = ['requests', 'bytes', 'temporary', 'kept'];

class Histogram {
  constructor(figures) {
    this.figures = figures;
    this.measure = 'requests';
    const select = byId('histogram-measure');
    for (const measure of HISTOGRAM_MEASURES) {
      select.append(element('option', { value: measure }, MEASURES[measure].name));
    }
    select.addEventListener('change', () => {
      this.measure = select.value;
      this.draw();
    });
  }

  draw() {
    this.drawAxis('size', byId('sizes'));
    this.drawAxis('lifetime', byId('lifetimes'));
  }

  drawAxis(axis, into) {
    const { figures, measure } = this;
    const values = figures.of(axis)[measure];
    const [range, next] = axis === 'size' ? [sizeRange, nextSize] : [lifetimeRange, nextLifetime];
    const found = Array.from(values, (value, row) => ({ value, label: figures.label(axis, row) }))
      .filter(({ value }) => value > 0)
      .sort((one, other) => one.label.order - other.label.order);
    // A class in between that has nothing is a gap that is seen.
    const rows = [];
    for (const row of found) {
      const before = rows.at(-1)?.label.order;
      if (before !== undefined && Number.isFinite(row.label.order)) {
        for (let order = next(before); order < row.label.order; order = next(order)) {
          rows.push({ value: 0, label: { name: range(order), order } });
        }
      }
      rows.push(row);
    }
    const most = Math.max(...rows.map(({ value }) => value), 1);
    const whole = rows.reduce((sum, { value }) => sum + value, 0);
    into.replaceChildren(...rows.map(({ value, label }) => element('div', { role: 'row', 'data-value': value },
      element('span', { role: 'rowheader' }, label.name),
      element('span', { class: 'track', 'aria-hidden': 'true' },
        element('i', { style: `width: ${((100 * value) / most).toFixed(2)}%` })),
      element('span', { role: 'cell' }, show(measure, value)),
      element('span', { role: 'cell' }, share(value, whole)))));
    if (!rows.length) into.replaceChildren(element('p', {}, 'Nothing in this interval.'));
  }
}
