// The tables: one row for each call site, thread and so on, sorted by any column.

const ROWS = 100;
const AXIS_NAMES = {
  site: 'Call site', function: 'Function', file: 'File', crate: 'Crate', thread: 'Thread', span: 'Span',
  size: 'Size', lifetime: 'Lifetime',
};

class Table {
  // `search` is asked to find a function in the flame graph.
  constructor(figures, search) {
    this.figures = figures;
    this.search = search;
    this.axis = 'site';
    this.sort = 'bytes';
    this.falling = true;
    this.filter = '';
    this.all = false;
    this.table = byId('table');
    this.buildAxes();
    this.buildHead();
    byId('table-filter').addEventListener('input', (event) => {
      this.filter = event.target.value.toLowerCase();
      this.draw();
    });
    byId('table-all').addEventListener('click', () => {
      this.all = true;
      this.draw();
    });
  }

  buildAxes() {
    const group = byId('axes');
    const axes = Object.keys(AXIS_NAMES);
    const choose = (axis) => {
      this.axis = axis;
      this.all = false;
      // Classes come in their own order, everything else by bytes.
      this.sort = axis === 'size' || axis === 'lifetime' ? 'name' : 'bytes';
      this.falling = this.sort !== 'name';
      this.draw();
    };
    for (const axis of axes) {
      group.append(element('button', {
        type: 'button', role: 'radio', 'data-axis': axis, on: { click: () => choose(axis) },
      }, AXIS_NAMES[axis]));
    }
    group.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      choose(axes[(axes.indexOf(this.axis) + step + axes.length) % axes.length]);
      group.querySelector('[aria-checked=true]').focus();
      event.preventDefault();
    });
  }

  buildHead() {
    const columns = ['name', ...Object.keys(MEASURES)];
    const heads = columns.map((column) => {
      const sort = () => {
        this.falling = this.sort === column ? !this.falling : column !== 'name';
        this.sort = column;
        this.draw();
      };
      const title = column === 'name' ? null : MEASURES[column].text;
      const text = column === 'name' ? '' : MEASURES[column].name;
      return element('th', { scope: 'col', 'data-column': column },
        element('button', { type: 'button', title, on: { click: sort } }, text));
    });
    this.table.tHead.replaceChildren(element('tr', {}, ...heads));
  }

  rows() {
    const { figures, axis, filter, sort } = this;
    const values = figures.of(axis);
    const rows = [];
    for (let row = 0; row < values.rows; row += 1) {
      // What has nothing to do with the interval has no place in it.
      const any = values.requests[row] || values.released[row] || values.live[row] || values.peak[row];
      if (!any) continue;
      const label = figures.label(axis, row);
      if (filter && !`${label.name} ${label.detail ?? ''}`.toLowerCase().includes(filter)) continue;
      rows.push({ row, label });
    }
    const direction = this.falling ? -1 : 1;
    const byName = (one, other) => {
      if (one.label.order !== undefined) return one.label.order - other.label.order;
      return one.label.name < other.label.name ? -1 : Number(one.label.name > other.label.name);
    };
    const compare = sort === 'name'
      ? (one, other) => direction * byName(one, other)
      : (one, other) =>
        direction * ((values[sort][one.row] || 0) - (values[sort][other.row] || 0)) || byName(one, other);
    return rows.sort(compare);
  }

  draw() {
    const { figures, axis, sort, falling } = this;
    for (const button of byId('axes').children) {
      const chosen = button.dataset.axis === axis;
      button.setAttribute('aria-checked', chosen);
      button.tabIndex = chosen ? 0 : -1;
    }
    for (const head of this.table.tHead.rows[0].cells) {
      const own = head.dataset.column === sort;
      if (own) head.setAttribute('aria-sort', falling ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
      if (head.dataset.column === 'name') head.firstChild.textContent = AXIS_NAMES[axis];
    }
    byId('table-caption').textContent = `The interval by ${AXIS_NAMES[axis].toLowerCase()}`;
    const rows = this.rows();
    const shown = this.all ? rows : rows.slice(0, ROWS);
    this.table.tBodies[0].replaceChildren(...shown.map((row) => this.row(row)));
    const all = counted(rows.length, 'row');
    byId('table-count').textContent = shown.length < rows.length ? `${shown.length} of ${all}` : all;
    byId('table-all').hidden = shown.length === rows.length;
  }

  row({ row, label }) {
    const { figures, axis, sort } = this;
    const values = figures.of(axis);
    const findable = axis === 'site' || axis === 'function';
    const name = findable
      ? element('button', {
        type: 'button', class: 'link', title: `${label.name}\n\nFind it in the flame graph`,
        on: { click: () => this.search(label.name) },
      }, withoutGenerics(label.name))
      : label.name;
    const detail = label.detail ? element('small', {}, label.detail) : null;
    const cells = Object.keys(MEASURES).map((measure) => {
      const value = values[measure][row];
      const attributes = { 'data-value': Number.isNaN(value) ? null : value };
      if (MEASURES[measure].bytes && !Number.isNaN(value)) attributes.title = `${count(value)} bytes`;
      if (measure === sort) {
        const whole = figures.total[measure] || 1;
        attributes.class = 'sorted';
        attributes.style = `--share: ${Math.min((100 * (value || 0)) / whole, 100).toFixed(2)}%`;
      }
      return element('td', attributes, show(measure, value));
    });
    return element('tr', {}, element('th', { scope: 'row' }, name, detail), ...cells);
  }
}
