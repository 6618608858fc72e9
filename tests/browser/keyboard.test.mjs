// The pages without a mouse and without eyes: by Tab and Enter, and by what a screen reader is told.

import assert from 'node:assert/strict';

import { arrived, scenario, state } from './harness.mjs';
import { fails, waits } from './services.mjs';

const CONTROLS = 'a[href], button, input, [tabindex="0"]';

/** Where the focus is, and whether that can be seen; nothing where no control has it. */
function focused(page) {
  return page.evaluate(() => {
    const one = document.activeElement;
    if (one === document.body) return undefined;
    const { outlineStyle, outlineWidth, outlineColor, opacity } = getComputedStyle(one);
    const isSeen = one.matches(':focus-visible') && outlineStyle === 'solid' && parseFloat(outlineWidth) >= 2
      && outlineColor !== getComputedStyle(document.body).backgroundColor && opacity === '1';
    return { name: one.localName === 'pre' ? 'pre' : one.textContent.trim(), isSeen };
  });
}

/** Walks from the page's beginning to its end: these are all its controls, in this order. */
async function walk(page, names) {
  const reached = [];
  for (let at = 0; at < names.length; at += 1) {
    await page.keyboard.press('Tab');
    reached.push(await focused(page));
  }
  assert.deepEqual(reached, names.map((name) => ({ name, isSeen: true })));
  const all = await page.locator(CONTROLS).filter({ visible: true }).count();
  assert.equal(all, names.length, 'there are others, which are not reached');
}

/** Goes on to a control and presses Enter on it. */
async function enter(page, name, key = 'Tab') {
  do await page.keyboard.press(key); while ((await focused(page))?.name !== name);
  await page.keyboard.press('Enter');
}

const OPEN = ['Open preview', 'Open chat', 'Open vscode'];

scenario('the page of a session is used by its keys alone', {}, async ({ page, gateway, open }) => {
  await open();
  await walk(page, [...OPEN, 'Start the session']);
  assert.match(await page.title(), /absent/);
  await page.keyboard.press('Enter');
  await state(page, 'running');
  // What a screen reader says first of a page.
  assert.match(await page.title(), /running/);
  assert.equal(await page.getByRole('status').first().innerText(), 'running');
  await page.waitForFunction(() => !document.querySelector('li:not(.done)'));
  // Its page has what they said last, two seconds late at most.
  do await open(); while (await page.locator('pre').count() < OPEN.length);
  await walk(page, [...OPEN, 'Stop the session', 'pre', 'pre', 'pre']);
  await enter(page, 'Open preview', 'Shift+Tab');
  await arrived(page);
  assert.equal(page.url(), gateway.at('preview/'));
  await open();
  await enter(page, 'Stop the session');
  await state(page, 'stopped');
  assert.match(await page.title(), /stopped/);
  assert.equal(await page.getByRole('status').first().innerText(), 'stopped');
});

scenario('the page of a failed service is used by its keys alone', { settings: fails }, async (line) => {
  const { page, gateway, open } = line;
  await open('preview/');
  await state(page, 'failed');
  assert.match(await page.title(), /failed/);
  assert.match(await page.getByRole('status').innerText(), /^Reason: the service ended by itself, exit code 3\.$/);
  await walk(page, ['pre', 'Try again', gateway.id]);
  const again = page.waitForRequest(gateway.at('-/start'));
  await enter(page, 'Try again', 'Shift+Tab');
  assert.equal((await again).method(), 'POST');
  await state(page, 'failed');
  await enter(page, gateway.id);
  await page.waitForURL(gateway.url);
});

scenario('a screen reader is told where a start is, and of a stop, where the page stays', {
  settings: waits,
}, async (line) => {
  const { page, context, gateway, open } = line;
  await open('preview/');
  await page.getByRole('status').filter({ hasText: 'Waiting for the service to answer' }).waitFor();
  await page.evaluate(() => { window.isSame = true; });
  await context.request.post(gateway.at('-/stop'));
  const alert = page.getByRole('alert');
  await alert.waitFor();
  assert.equal(await alert.innerText(), 'It was stopped. Its files are kept.');
  assert.ok(await page.evaluate(() => window.isSame), 'it is the same page');
});
