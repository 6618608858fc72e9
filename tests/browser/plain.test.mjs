// Without scripts: every page of the gateway's own works by refresh, links and forms.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { arrived, scenario, state } from './harness.mjs';
import { fails, waits } from './services.mjs';

const plain = { browser: { javaScriptEnabled: false } };

scenario('without scripts the waiting page refreshes itself', { ...plain, settings: waits }, async (line) => {
  const { page, gateway, folder, open } = line;
  await open('preview/?a=1');
  await state(page, 'starting', 'absent');
  await writeFile(join(folder, 'go'), '');
  await arrived(page);
  assert.equal(page.url(), gateway.at('preview/?a=1'));
});

scenario('without scripts the buttons start and stop, and the page follows', plain, async ({ page, open }) => {
  await open();
  await page.click('form[action$="/-/start"] button');
  await state(page, 'running');
  await page.click('form[action$="/-/stop"] button');
  await state(page, 'stopped');
});

scenario('without scripts a failed service can be tried again', { ...plain, settings: fails }, async (line) => {
  const { page, folder, open } = line;
  await open('preview/');
  await state(page, 'failed');
  await writeFile(join(folder, 'mended'), '');
  await page.click('form[action$="/-/start"] button');
  await arrived(page);
  assert.match(page.url(), /\/preview\/$/);
});
