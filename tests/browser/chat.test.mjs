// The chat: an answer arrives as it is made.

import assert from 'node:assert/strict';

import { scenario } from './harness.mjs';

scenario('an answer grows word by word', {}, async ({ page, open }) => {
  await open('chat/');
  await page.getByRole('textbox').fill('Hello there');
  // What the answer said at each change of the page; times would only say how busy the machine is.
  await page.evaluate(() => {
    const log = document.querySelector('[role="log"]');
    window.seen = [];
    new MutationObserver(() => {
      const said = log.lastElementChild?.textContent ?? '';
      if (said !== window.seen.at(-1)) window.seen.push(said);
    }).observe(log, { childList: true, subtree: true, characterData: true });
  });
  await page.getByRole('button', { name: /send/i }).click();
  await page.waitForFunction(() => window.seen.length > 5);
  await page.waitForFunction(() => document.querySelector('[role="log"]').getAttribute('aria-busy') === 'false');
  const said = (await page.evaluate(() => window.seen)).slice(-5);
  for (const [at, words] of said.entries()) {
    assert.ok(at === 0 || words.startsWith(said[at - 1]), `${words} does not go on from ${said[at - 1]}`);
  }
  assert.match(await page.locator('body').innerText(), /demonstration/i);
});
