// Back and forward over pages of the gateway's own: no form is sent again, so nothing starts and nothing stops.

import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { arrived, program, scenario, state, status } from './harness.mjs';
import { go } from './services.mjs';

const START = 'form[action$="/-/start"] button';
const STOP = 'form[action$="/-/stop"] button';

/** The addresses that forms were sent to from now on. */
function sent(page) {
  const posts = [];
  page.on('request', (request) => request.method() === 'POST' && posts.push(request.url()));
  return posts;
}

scenario('back and forward start and stop nothing', {}, async (line) => {
  const { page, open, gateway } = line;
  const posts = sent(page);
  await open();
  await page.click(START);
  await state(page, 'running');
  await page.click('a[href="./preview/"]');
  await arrived(page);
  const { used } = await status(line);
  for (const step of ['goBack', 'goBack', 'goForward', 'goForward', 'goBack']) {
    await page[step]();
    assert.equal((await status(line)).state, 'running', step);
  }
  await state(page, 'running');
  assert.ok(used);
  await page.click(STOP);
  await state(page, 'stopped');
  const before = posts.length;
  for (const step of ['goBack', 'goForward']) {
    await page[step]();
    assert.equal(page.url(), gateway.at(), step);
    await state(page, 'stopped');
    assert.equal((await status(line)).state, 'stopped', step);
  }
  assert.equal(posts.length, before, 'no form was sent again');
  assert.equal(before, 2);
});

/** One service, which notes that it was started, and waits for the file `go`, or fails where there is a file `fail`. */
const settings = (folder) => [
  'service.chat=null', 'service.vscode=null', 'spawn.trigger=api',
  `local.services.preview.command={sh,-c,echo >> ${folder}/runs; until test -e ${folder}/go; do `
    + `test -e ${folder}/fail && exit 3; sleep 0.05; done; exec ${program} demo preview}`,
];

// Only buttons start it: otherwise whoever goes back to an address of a stopped service opens it, which starts it.
scenario('back and forward over pages that wait, failed and were stopped send no form again', { settings }, async (
  line,
) => {
  const { page, gateway, folder, open } = line;
  const posts = sent(page);
  /** Goes back and forth, and finds each page, everything as it was, and no form sent but those of the buttons. */
  const walk = async (steps, expected, buttons, starts) => {
    for (const [step, path] of steps) {
      await page[step]();
      assert.equal(page.url(), gateway.at(path), step);
      await state(page, expected);
      assert.equal((await status(line)).state, expected, step);
    }
    assert.equal(posts.length, buttons);
    assert.equal((await readFile(join(folder, 'runs'), 'utf8')).length, starts);
  };
  const between = [['goBack', 'preview/'], ['goForward', ''], ['goBack', 'preview/'], ['goForward', '']];

  await open('preview/');
  await state(page, 'absent');
  await page.click(START);
  await state(page, 'starting');
  await page.getByRole('link', { name: gateway.id }).click();
  await page.waitForURL(gateway.url);
  await walk(between, 'starting', 1, 1);

  await writeFile(join(folder, 'fail'), '');
  await state(page, 'failed');
  await walk(between, 'failed', 1, 1);
  const loaded = page.waitForEvent('load');
  await page.click(START);
  await loaded;
  await state(page, 'failed');
  await walk([['goBack', ''], ['goBack', 'preview/'], ['goForward', ''], ['goForward', '']], 'failed', 2, 2);

  await page.goBack();
  await page.goBack();
  await rm(join(folder, 'fail'));
  await page.click(START);
  await state(page, 'starting');
  await go(line);
  await arrived(page);
  await open();
  await page.click(STOP);
  await state(page, 'stopped');
  await open('preview/');
  await state(page, 'stopped');
  await page.getByRole('link', { name: gateway.id }).click();
  await page.waitForURL(gateway.url);
  await walk([['goBack', 'preview/'], ['goBack', ''], ['goForward', 'preview/'], ['goForward', '']], 'stopped', 4, 3);
});
