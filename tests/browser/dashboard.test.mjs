// The dashboard on the operators' port: what it shows while sessions start, fail and stop, and its buttons.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { program, scenario } from './harness.mjs';
import { look } from './looks.mjs';

const COUNT = 20;
const TOKEN = 'a-token-of-operators';

/** One service a session, which starts when the scenario says so, or fails where it has left a file of its name. */
const settings = (folder) => [
  'service.chat=null', 'service.vscode=null',
  `local.services.preview.command={sh,-c,test -e ${folder}/fail-$SESSION_UUID && echo no such thing >&2 && exit 3; `
    + `until test -e ${folder}/go; do sleep 0.3; done; exec ${program} demo preview}`,
];

/** A row of one of the lists. */
const row = (page, list, id) => page.locator(`#${list} > li[data-id="${id}"]`);

/** Waits until a list has so many rows. */
const rows = (page, list, count) => page.waitForFunction(
  ([name, wanted]) => document.getElementById(name).childElementCount === wanted, [list, count]);

/** Waits until so many are counted in a state. */
const counted = (page, state, count) => page.waitForFunction(
  ([name, wanted]) => document.querySelector(`#counts [data-id="${name}"] b`)?.textContent === wanted,
  [state, String(count)]);

const live = (page) => page.waitForSelector('body[data-live="yes"]');

const start = async (gateway, id) => {
  const answer = await fetch(`${gateway.admin}/api/sessions/${id}/start`, { method: 'POST' });
  assert.equal(answer.status, 202);
};

scenario('the dashboard follows twenty sessions from their start to their end', {
  settings, isAdmin: true,
}, async ({ page, gateway, folder }) => {
  await page.goto(`${gateway.admin}/`);
  await live(page);
  await look(page, 'dashboard empty');

  const ids = Array.from({ length: COUNT }, () => randomUUID());
  const [failing, first] = ids;
  await writeFile(join(folder, `fail-${failing}`), '');
  await Promise.all(ids.map((id) => start(gateway, id)));
  await rows(page, 'failures', 1);
  await rows(page, 'starts', COUNT - 1);
  await rows(page, 'sessions', COUNT);
  await counted(page, 'starting', COUNT - 1);
  assert.match(await row(page, 'failures', failing).innerText(), /ended by itself, exit code 3[^]*no such thing/);
  const stages = row(page, 'starts', first).locator('.stages li');
  assert.deepEqual(await stages.evaluateAll((all) => all.map((one) => one.className)), ['done', 'done', 'done', 'now']);
  assert.match(await row(page, 'starts', first).innerText(), /user 0, for \d+ s/);
  await look(page, 'dashboard starting');

  await row(page, 'failures', failing).getByRole('button', { name: /Explain/ }).click();
  const explained = page.getByRole('dialog');
  assert.match(await explained.innerText(), /Waiting does not help/);
  await look(page, 'dashboard explained');
  await page.keyboard.press('Escape');
  await explained.waitFor({ state: 'hidden' });

  await writeFile(join(folder, 'go'), '');
  await rows(page, 'starts', 0);
  await counted(page, 'running', COUNT - 1);
  await page.locator('#counts [data-id="running"]').click();
  await rows(page, 'sessions', COUNT - 1);
  // It can be tried again by now, and why it failed is still told.
  await rows(page, 'failures', 1);
  await page.locator('#counts [data-id="all"]').click();
  await page.getByLabel('Id, user or project').fill(first);
  await rows(page, 'sessions', 1);
  const one = row(page, 'sessions', first);
  await one.getByRole('button', { name: /Stop/ }).click();
  await counted(page, 'stopped', 1);
  await one.getByRole('button', { name: /Start/ }).click();
  await counted(page, 'running', COUNT - 1);
  await page.getByLabel('Id, user or project').fill('');
  await rows(page, 'sessions', COUNT);
  await look(page, 'dashboard running');

  await fetch(`${gateway.admin}/api/sessions/${failing}`, { method: 'DELETE' });
  await rows(page, 'failures', 0);
  await rows(page, 'sessions', COUNT - 1);
});

scenario('the dashboard says how many starts wait for their turn', {
  settings: ['service.chat=null', 'service.vscode=null', 'spawn.concurrent=1', 'local.grace=6s',
    'local.services.preview.command={sh,-c,trap : TERM; while :; do sleep 0.2; done}'],
  isAdmin: true,
}, async ({ page, gateway }) => {
  await page.goto(`${gateway.admin}/`);
  await live(page);
  const [stubborn, ...others] = Array.from({ length: 6 }, () => randomUUID());
  await start(gateway, stubborn);
  await rows(page, 'starts', 1);
  // It does not end before its grace, and its next start has the only turn until then.
  const stop = fetch(`${gateway.admin}/api/sessions/${stubborn}/stop`, { method: 'POST' });
  await counted(page, 'stopping', 1);
  await start(gateway, stubborn);
  await Promise.all(others.map((id) => start(gateway, id)));
  await page.getByRole('heading', { name: `Being started, ${others.length} in the queue`, exact: true }).waitFor();
  const places = await page.locator('#starts .told').allInnerTexts();
  const numbers = places.map((text) => text.match(/number (\d) in the queue/)?.[1]).filter(Boolean);
  assert.deepEqual(numbers.sort(), ['1', '2', '3', '4', '5']);
  await look(page, 'dashboard queue');
  await page.getByRole('heading', { name: 'Being started', exact: true }).waitFor();
  assert.equal((await stop).status, 200);
  await rows(page, 'starts', others.length + 1);
});

scenario('the dashboard asks for the token where there is one, and connects again', {
  settings: async (folder) => {
    await writeFile(join(folder, 'token'), TOKEN);
    return [...settings(folder), `admin.token_file=${folder}/token`];
  },
  isAdmin: true,
  says: [/401 \(Unauthorized\) \(\S+\/api\/events\)$/],
}, async ({ page, gateway }) => {
  await page.goto(`${gateway.admin}/`);
  const token = page.getByLabel('Token');
  for (const [words, state] of [['something else', 'not let in'], [TOKEN, 'live']]) {
    await token.waitFor();
    await look(page, `dashboard token ${state}`);
    await token.fill(words);
    await page.getByRole('button', { name: 'Go on' }).click();
    await page.getByText(state, { exact: true }).waitFor();
  }
  await token.waitFor({ state: 'hidden' });
  // It is kept as long as the tab is.
  await page.reload();
  await live(page);
});
