// The line that a newcomer follows: from the printed address to the services, through every state of a session.

import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { arrived, program, scenario, state } from './harness.mjs';
import { fails } from './services.mjs';

scenario('the printed address is the page of a session, with links to its services', {}, async (line) => {
  const { page, gateway, open } = line;
  const answer = await open();
  assert.equal(answer.status(), 200);
  await state(page, 'absent');
  for (const service of ['preview', 'chat', 'vscode']) {
    assert.equal(await page.locator(`a[href="./${service}/"]`).count(), 1, service);
  }
  assert.equal(await page.locator('form[action$="/-/start"] button').count(), 1);
});

scenario('links and buttons of the page start, stop and start a session again', {}, async ({ page, gateway, open }) => {
  await open();
  await page.click('form[action$="/-/start"] button');
  await state(page, 'running');
  assert.equal(page.url(), gateway.at());
  await page.click('form[action$="/-/stop"] button');
  await state(page, 'stopped');
  await page.click('form[action$="/-/start"] button');
  await state(page, 'running');
  await page.click('a[href="./preview/"]');
  await arrived(page);
  assert.equal(page.url(), gateway.at('preview/'));
});

scenario('a failed service says why, and can be tried again', { settings: fails }, async ({ page, folder, open }) => {
  await open('preview/');
  await state(page, 'failed');
  const text = await page.locator('body').innerText();
  assert.match(text, /no such thing/);
  assert.match(text, /\b3\b/);
  await writeFile(join(folder, 'mended'), '');
  await page.click('form[action$="/-/start"] button');
  await arrived(page);
  assert.match(page.url(), /\/preview\/$/);
});

scenario('a running service that dies is shown as failed', {
  settings: (folder) => [`local.services.preview.command={sh,-c,${program} demo preview & `
    + `until test -e ${folder}/die; do sleep 0.05; done; echo out of luck >&2; exit 4}`],
  // Of its last page, whose parts it no longer answers.
  says: [/\/preview\/(style\.css|\.session-gateway\/reload)/],
}, async ({ page, folder, open }) => {
  await open('preview/');
  await arrived(page);
  await writeFile(join(folder, 'die'), '');
  // Until it has ended it answers, with a page that loads itself again when it is cut off: also amid a visit.
  const itself = ({ message }) => assert.match(message, /interrupted by another navigation/);
  const visit = () => open('preview/').catch(itself);
  do await visit(); while (await page.locator('body[data-state]').count() === 0);
  await state(page, 'failed');
  assert.match(await page.locator('body').innerText(), /out of luck/);
  await rm(join(folder, 'die'));
});

scenario('what addresses nothing is said to be not found', {
  outside: (gateway) => [`${gateway.origin}/nowhere`],
}, async ({ page, gateway, open }) => {
  for (const address of [`${gateway.origin}/nowhere`, gateway.at('nowhere/')]) {
    const answer = await page.goto(address);
    assert.equal(answer.status(), 404, address);
    assert.match(await page.locator('h1').innerText(), /nothing at this address/);
  }
  await open();
});
