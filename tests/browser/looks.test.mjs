// How the pages look in all their states.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { setTimeout } from 'node:timers/promises';

import { arrived, scenario, state, status } from './harness.mjs';
import { look } from './looks.mjs';
import { fails, go, waitAll, waits } from './services.mjs';

// It knows no project.
let platform;
before(async () => {
  platform = createServer((request, response) => response.writeHead(404).end()).listen(0, '127.0.0.1');
  await once(platform, 'listening');
});
after(() => platform.close());

scenario('the pages of a session look well in all its states', { settings: waits }, async (line) => {
  const { page, open } = line;
  await open();
  await look(page, 'session absent');
  await open('preview/');
  await state(page, 'starting');
  await look(page, 'waiting');
  // The session runs when one of its services does; the page says of each where it stands.
  await open();
  await state(page, 'running');
  await look(page, 'session partly running');
  await page.click('form[action$="/-/stop"] button');
  await state(page, 'stopped');
  await look(page, 'session stopped');
  await open('nowhere/');
  await look(page, 'not found');
});

scenario('the page of a session that starts looks well', {
  settings: waitAll,
}, async ({ page, open }) => {
  await open();
  await page.click('form[action$="/-/start"] button');
  await state(page, 'starting');
  await look(page, 'session starting');
});

/** Settings of sessions with a service that ends when the scenario has made the file `go`, and not when told to. */
const stubborn = (folder) => ['service.chat=null', 'service.vscode=null', 'spawn.concurrent=1', 'local.grace=2m',
  `local.services.preview.command={sh,-c,trap : TERM; touch ${folder}/deaf; `
    + `until test -e ${folder}/go; do sleep 0.05; done}`];

/** Waits until one of them does not hear that it is told to end. */
async function deaf({ folder }) {
  while (!existsSync(join(folder, 'deaf'))) await setTimeout(20);
}

scenario('the pages of a stop under way look well', { settings: stubborn }, async (line) => {
  const { page, context, gateway, open } = line;
  await open('preview/');
  await deaf(line);
  const stop = context.request.post(gateway.at('-/stop'), { timeout: 0 });
  await open();
  await state(page, 'stopping');
  await look(page, 'session stopping');
  await open('preview/');
  await page.getByText('The session is being stopped').waitFor();
  await look(page, 'waiting for a stop');
  await go(line);
  await stop;
});

scenario('the pages of a queue look well', { settings: stubborn }, async (line) => {
  const { page, context, gateway, open } = line;
  const other = { at: (path) => gateway.at(path).replace(gateway.id, '00000000-0000-4000-8000-000000000000') };
  const begin = () => context.request.post(other.at('-/start'));
  await begin();
  await deaf(line);
  const stop = context.request.post(other.at('-/stop'), { timeout: 0 });
  while ((await status({ context, gateway: other })).state !== 'stopping');
  // It has the only turn until it has ended.
  await begin();
  await open('preview/');
  await page.getByText('number 1 in the queue').waitFor();
  await look(page, 'waiting in the queue');
  await open();
  await page.getByText('number 1 in the queue').waitFor();
  await look(page, 'session in the queue');
  await go(line);
  await stop;
});

scenario('the page of a stop that is announced looks well', {
  settings: ['idle.after=1s', 'idle.countdown=60s'],
}, async ({ page, open }) => {
  await open();
  await page.click('form[action$="/-/start"] button');
  await page.getByRole('button', { name: 'Keep it running' }).waitFor();
  await look(page, 'session countdown');
});

scenario('the page of a stop that nothing takes back looks well', {
  settings: ['idle.max_age=1h', 'idle.countdown=1h'],
}, async ({ page, open }) => {
  await open();
  await page.click('form[action$="/-/start"] button');
  await page.getByText('It has run for as long as it may').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Keep it running' }).isVisible(), false);
  assert.match(await page.getByRole('timer').innerText(), /stopped in 5\d min,/);
  await look(page, 'session age');
});

scenario('the pages of what is not started look well', {
  settings: ['spawn.trigger=api', 'spawn.limits.starts_per_client=1'],
  outside: ({ origin }) => [`${origin}/00000000-0000-4000-8000-000000000000/preview/`],
}, async ({ page, context, gateway, open }) => {
  await open('preview/');
  await state(page, 'absent');
  await look(page, 'stopped');
  await context.request.post(gateway.at('-/start'));
  await context.request.post(gateway.at('-/stop'));
  await page.click('form[action$="/-/start"] button');
  await state(page, 'limited');
  await look(page, 'limited');
  // A page of another site may not ask for this.
  const form = (action) => {
    document.body.innerHTML = `<form method="post" action="${action}"><button>Send</button></form>`;
  };
  await page.goto('about:blank');
  await page.evaluate(form, gateway.at('preview/'));
  await page.click('button');
  await state(page, 'cross_site');
  await look(page, 'refused');
});

scenario('the page of a failure that may pass looks well', {
  settings: (folder) => [...waits(folder), 'spawn.hold=1s', 'spawn.timeout=1s'],
}, async ({ page, open }) => {
  await open('preview/');
  await state(page, 'failed');
  await page.getByText('This page looks again by itself').waitFor();
  await look(page, 'failed for now');
});

/** Opens the page of a session of which a service has just failed. */
async function failed({ page, context, gateway, open }) {
  await context.request.post(gateway.at('-/start'));
  await open();
  await page.locator('.grid .failed').waitFor();
}

scenario('the page of a failure with much to say looks well', {
  settings: ['local.services.preview.command={sh,-c,for n in $(seq 60); do echo $n: what was said at this line; done; '
    + 'printf %0500d 7 >&2; exit 3}'],
}, async (line) => {
  const { page, open } = line;
  await open('preview/');
  await state(page, 'failed');
  assert.match(await page.locator('pre').innerText(), /60: what was said.*0{300}/s);
  await look(page, 'failed at length');
  await failed(line);
  await look(page, 'session failed at length');
});

scenario('the page of a session of no project looks well', {
  settings: () => [`resolver.url=http://127.0.0.1:${platform.address().port}/`],
}, async ({ page, open }) => {
  const answer = await open('preview/');
  assert.equal(answer.status(), 404);
  await state(page, 'no_such_project');
  await look(page, 'no such project');
});

scenario('the pages of a failed session look well', { settings: fails }, async (line) => {
  const { page, open } = line;
  await open('preview/');
  await state(page, 'failed');
  await look(page, 'failed');
  await failed(line);
  await look(page, 'session failed');
});

scenario('the built-in services look well', {}, async ({ page, open }) => {
  for (const service of ['preview', 'chat', 'vscode']) {
    await open(`${service}/`);
    await arrived(page);
    await look(page, service);
  }
  await open();
  await state(page, 'running');
  await look(page, 'session running');
});
