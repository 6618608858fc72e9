// The rows of the dashboard's lists: made once for each session, and changed in place, so that a button that somebody
// is about to press stays where it is.

/** An element with its class and what is in it. */
function make(name, className, ...inside) {
  const element = document.createElement(name);
  element.className = className;
  element.append(...inside);
  return element;
}

/** Makes the children of `list` those of `items`, by their ids and in their order. */
export function sync(list, items, row, acts) {
  const before = new Map([...list.children].map((child) => [child.dataset.id, child]));
  let last = null;
  for (const item of items) {
    const old = before.get(item.id);
    const child = row(item, acts, old);
    child.dataset.id = item.id;
    before.delete(item.id);
    const next = last ? last.nextSibling : list.firstChild;
    if (child !== next) list.insertBefore(child, next);
    last = child;
  }
  for (const child of before.values()) child.remove();
}

/** Puts what differs into the parts of a row. */
function fill(row, parts) {
  for (const [name, text] of Object.entries(parts)) {
    const part = row.querySelector(`[data-part="${name}"]`);
    if (part.textContent !== text) part.textContent = text;
  }
}

function part(name, element) {
  element.dataset.part = name;
  return element;
}

function frame(...inside) {
  const row = make('li', '');
  row.append(
    make('div', 'row', part('id', make('span', 'id')), part('state', make('span', 'state'))),
    ...inside,
    part('acts', make('div', 'acts')),
  );
  return row;
}

/** What every row has: the id, the state and the buttons of a session. */
function common(row, session, acts) {
  fill(row, { id: session.id, state: session.state });
  const state = row.querySelector('[data-part="state"]');
  state.className = `state ${session.state}`;
  const hasFailed = session.services.some((service) => service.code);
  const runs = ['running', 'starting'].includes(session.state);
  const names = [
    ...(hasFailed ? ['Try again'] : runs || session.state === 'stopping' ? [] : ['Start']),
    ...(runs || session.state === 'failed' ? ['Stop'] : []),
    'Explain',
  ];
  const buttons = row.querySelector('[data-part="acts"]');
  if (buttons.dataset.names === names.join()) return;
  buttons.dataset.names = names.join();
  buttons.replaceChildren(...names.map((name) => {
    const button = make('button', name === 'Start' || name === 'Try again' ? '' : 'quiet', name);
    button.ariaLabel = `${name}: session ${session.id}`;
    const path = name === 'Stop' ? 'stop' : 'start';
    button.addEventListener('click', () => {
      if (name === 'Explain') acts.explain(session);
      else acts.act(session, path, button);
    });
    return button;
  }));
}

/** A session that is being started: its stages, and for how long. */
export function startRow(session, acts, old) {
  const row = old ?? frame(part('told', make('div', 'told')), part('stages', make('ol', 'stages')));
  common(row, session, acts);
  const service = session.services.find((one) => one.since) ?? {};
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(service.since)) / 1000)) || 0;
  const place = service.position ? `, number ${service.position} in the queue` : '';
  fill(row, { told: `user ${session.user ?? 'not known yet'}, for ${seconds} s${place}` });
  const stages = row.querySelector('[data-part="stages"]');
  const states = session.stages?.map((stage) => stage.state).join() ?? '';
  if (stages.dataset.states !== states) {
    stages.dataset.states = states;
    stages.replaceChildren(...(session.stages ?? []).map((stage, at) => {
      const item = make('li', stage.state, stage.title + took(stage, session.stages[at + 1]));
      if (stage.state === 'now') item.ariaCurrent = 'step';
      return item;
    }));
  }
  return row;
}

/** How long a stage took, until the next one. */
function took(stage, next) {
  const seconds = (Date.parse(next?.since) - Date.parse(stage.since)) / 1000;
  return seconds >= 0 ? ` ${seconds.toFixed(1)} s` : '';
}

/** A session of which something failed, with the reason and the words of what refused it. */
export function failureRow(session, acts, old) {
  const row = old ?? frame(part('why', make('p', '')), part('detail', make('pre', '')));
  common(row, session, acts);
  const failed = session.services.filter((service) => service.code);
  const reasons = new Map(failed.map((service) => [service.reason, service]));
  const names = (reason) => failed.filter((one) => one.reason === reason).map((one) => one.name).join(', ');
  fill(row, {
    why: [...reasons].map(([reason, service]) => `${names(reason)}: ${reason} (${service.code})`).join('; '),
    detail: [...reasons.values()].map((service) => service.detail).filter(Boolean).join('\n'),
  });
  const detail = row.querySelector('[data-part="detail"]');
  detail.hidden = !detail.textContent;
  detail.tabIndex = 0;
  return row;
}

/** Any session. */
export function sessionRow(session, acts, old) {
  const row = old ?? frame(part('told', make('div', 'told')));
  common(row, session, acts);
  const known = [
    ['user', session.user],
    ['project', session.project],
    ['profile', session.profile],
    [session.because === 'max_age' ? 'has run for as long as it may, and will be stopped at' : 'will be stopped at',
      time(session.stop)],
    ['last used', time(session.used)],
  ];
  fill(row, { told: known.filter(([, value]) => value).map((pair) => pair.join(' ')).join(' · ') });
  return row;
}

function time(text) {
  return text && new Date(text).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
}

/** A button that shows the sessions in one state, or all. */
export function countButton({ state, count, shown }, choose, old) {
  const name = make('span', `state ${state ?? ''}`);
  const button = old ?? make('button', '', part('name', name), part('count', make('b', '')));
  if (!old) {
    button.type = 'button';
    button.addEventListener('click', () => choose(state));
  }
  button.ariaPressed = String(state === shown);
  fill(button, { name: state ?? 'all', count: String(count) });
  return button;
}

/** One condition of a session's being there. */
export function stepItem(step) {
  const state = step.state === 'unknown' ? 'later' : step.state;
  const words = [step.title, step.position && `: number ${step.position} in the queue`].filter(Boolean).join('');
  const item = make('li', state, words);
  if (step.reason) {
    const helps = step.waiting_helps ? 'Waiting can help.' : 'Waiting does not help.';
    item.append(make('div', 'told', [step.reason, step.detail].filter(Boolean).join(': '), `. ${helps}`));
  }
  if (state === 'now' || state === 'failed') item.ariaCurrent = 'step';
  return item;
}
