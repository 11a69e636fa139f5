// What could leave the heap, or use it less. It is of the whole recording.

const FINDINGS = 10;

function drawAdvice(about, search) {
  const parts = [element('p', { class: 'hint' }, 'Of the whole recording, whatever interval is picked.')];
  if (!about.backtraces) {
    parts.push(element('p', { class: 'warnings' }, 'This recording has no backtraces: whose blocks they are, and what could live on the stack, cannot be told.'));
  }
  if (!about.advice.length) parts.push(element('p', {}, 'Nothing was found.'));
  for (const group of about.advice) {
    const list = element('div');
    const put = (findings) => list.append(...findings.map((found) => finding(about, found, search)));
    put(group.findings.slice(0, FINDINGS));
    const rest = group.findings.slice(FINDINGS);
    parts.push(element('h3', {}, `${group.heading} (${count(group.findings.length)})`), list);
    if (group.rule === 'stack') {
      parts.push(element('p', { class: 'hint' }, 'A function that returned and was called again from the same place, with no heap event in between that shows it, counts as one activation.'));
    }
    if (rest.length) {
      const more = element('button', { type: 'button', on: { click: () => { put(rest); more.remove(); } } }, `Show ${counted(rest.length, 'more finding').replace('more findings', 'more')}`);
      parts.push(more);
    }
  }
  byId('advice').replaceChildren(...parts);
}

function finding(about, found, search) {
  const name = about.texts[found.function];
  return element('article', { class: 'finding' },
    element('p', {}, element('button', { type: 'button', class: 'link', title: 'Find it in the flame graph', on: { click: () => search(name) } },
      element('strong', {}, withoutGenerics(name)))),
    found.place ? element('p', { class: 'hint' }, found.place) : null,
    element('p', {}, found.evidence),
    element('p', { class: 'remedy' }, `→ ${found.remedy}`));
}
