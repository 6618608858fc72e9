// The dashboard: what the API tells of all sessions, live, and its buttons.
//
// It reads /api/events by fetch, since an EventSource cannot send the token. Text of others is only ever put into text
// nodes: the policy of the page allows nothing else.

import { countButton, failureRow, sessionRow, startRow, stepItem, sync } from './rows.js';

const STATES = ['starting', 'failed', 'running', 'stopping', 'stopped', 'vanished', 'absent'];
// So many rows of each list are shown: more are found by state or by search.
const SHOWN = 100;
// How long it waits before it connects again, at first and at most.
const AGAIN = [500, 10_000];
// No byte for so long: the connection is dead. The gateway sends something every 15 s.
const SILENCE = 40_000;
const TOKEN = 'session-gateway-token';

const at = (id) => document.getElementById(id);
const sessions = new Map();
let counts = { states: {}, queued: 0 };
let shown = null;
let wanted = '';
let isDrawn = true;

/** Asks the API, as this page. */
async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { 'session-gateway-dashboard': '1', ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(path, { ...options, headers, cache: 'no-store' });
  if (answer.status === 401) {
    sessionStorage.removeItem(TOKEN);
    at('token').hidden = false;
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({ title: `The API answered ${answer.status}` }));
    throw Object.assign(new Error([problem.title, problem.detail].filter(Boolean).join(': ')), { answer });
  }
  return answer;
}

function say(error) {
  at('problem').textContent = error ? `${error.message}.` : '';
  at('problem').hidden = !error;
}

/** Whether what is shown is what there is. */
function live(is, words) {
  document.body.dataset.live = is ? 'yes' : 'no';
  at('live').textContent = words;
  at('live').className = is ? 'state running' : 'state failed';
}

async function act(session, name, button) {
  button.disabled = true;
  try {
    await ask(`/api/sessions/${session.id}/${name}`, { method: 'POST' });
    say();
  } catch (error) {
    say(error);
  } finally {
    button.disabled = false;
  }
}

async function explain(session) {
  try {
    const told = await (await ask(`/api/sessions/${session.id}/explain`)).json();
    at('explained-head').textContent = `Session ${told.id}`;
    at('explained-summary').textContent = `${told.summary}.`;
    at('explained-steps').replaceChildren(...told.steps.map(stepItem));
    at('explained').showModal();
    say();
  } catch (error) {
    say(error);
  }
}

const acts = { act, explain };

function draw() {
  isDrawn = true;
  const all = [...sessions.values()].sort((one, other) => (one.id < other.id ? -1 : 1));
  const position = (one) => Math.max(0, ...one.services.map((service) => service.position ?? 0));
  const starts = all.filter((one) => one.state === 'starting').sort((one, other) => position(one) - position(other));
  const failures = all.filter((one) => one.services.some((service) => service.code));
  const fits = (one) => (!shown || one.state === shown)
    && (!wanted || [one.id, one.user, one.project].some((text) => text?.includes(wanted)));
  const fitting = all.filter(fits);
  list('starts', starts, startRow);
  list('failures', failures, failureRow);
  list('sessions', fitting, sessionRow);
  at('more').hidden = fitting.length <= SHOWN;
  at('more').textContent = `${fitting.length - SHOWN} more are not shown.`;
  const there = STATES.filter((state) => counts.states[state] || state === shown);
  const groups = [null, ...there].map((state) => ({ state, id: state ?? 'all', count: count(state), shown }));
  sync(at('counts'), groups, countButton, (state) => { shown = state; later(); });
  at('starts-head').textContent = counts.queued ? `Being started, ${counts.queued} in the queue` : 'Being started';
}

function list(name, rows, row) {
  document.querySelector(`[data-none="${name}"]`).hidden = rows.length > 0;
  sync(at(name), rows.slice(0, SHOWN), row, acts);
}

function count(state) {
  const all = Object.values(counts.states).reduce((sum, some) => sum + some, 0);
  return state ? counts.states[state] ?? 0 : all;
}

/** Draws soon, once for all that comes until then. */
function later() {
  if (isDrawn) {
    isDrawn = false;
    setTimeout(draw, 50);
  }
}

function take(name, data) {
  if (name === 'session') sessions.set(data.id, data);
  if (name === 'gone') sessions.delete(data.id);
  if (name === 'counts') {
    counts = data;
    // All that there is at this moment has been told.
    live(true, 'live');
  }
  later();
}

/** Reads events until the connection ends, in whatever way. */
async function read() {
  const ending = new AbortController();
  const answer = await ask('/api/events', { signal: ending.signal });
  sessions.clear();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const dead = setTimeout(() => ending.abort(), SILENCE);
    const { done, value } = await reader.read().finally(() => clearTimeout(dead));
    if (done) return;
    const events = (text + value).split('\n\n');
    text = events.pop();
    for (const event of events) {
      const field = (name) => event.split('\n').find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      if (field('event')) take(field('event'), JSON.parse(field('data')));
    }
  }
}

async function follow() {
  for (let pause = AGAIN[0]; ; pause = Math.min(2 * pause, AGAIN[1])) {
    try {
      at('token').hidden = true;
      await read();
      pause = AGAIN[0];
    } catch (error) {
      if (error.answer?.status === 401) {
        live(false, 'not let in');
        return;
      }
      if (error.answer) say(error);
    }
    live(false, 'not live: connecting again');
    await new Promise((resolve) => { setTimeout(resolve, pause); });
  }
}

at('token').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, new FormData(event.target).get('token').trim());
  event.target.reset();
  follow();
});
at('search').addEventListener('input', (event) => {
  wanted = event.target.value.trim();
  later();
});
// The seconds of starts go on without any event.
setInterval(() => { if (at('starts').childElementCount) later(); }, 1000);
follow();
