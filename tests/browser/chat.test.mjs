// The chat: an answer arrives as it is made.

import assert from 'node:assert/strict';

import { arrived, scenario } from './harness.mjs';

scenario('an answer grows word by word', {}, async ({ page, open }) => {
  await open('chat/');
  await arrived(page);
  // What the answer said at each change of the page; times would only say how busy the machine is.
  await page.evaluate(() => {
    const answers = () => document.querySelectorAll('.answer');
    const before = answers().length;
    window.seen = [];
    new MutationObserver(() => {
      const said = answers()[before]?.textContent;
      if (said && said !== window.seen.at(-1)) window.seen.push(said);
    }).observe(document.body, { childList: true, subtree: true, characterData: true });
  });
  await page.getByRole('textbox', { name: 'Message' }).fill('Hello there');
  await page.getByRole('button', { name: 'Send' }).click();
  // Only a whole answer is announced.
  await page.waitForFunction(() => document.querySelector('[role="status"]').textContent === window.seen.at(-1));
  const seen = await page.evaluate(() => window.seen);
  assert.ok(seen.length > 5, `the page changed ${seen.length} times`);
  for (const [at, words] of seen.entries()) {
    assert.ok(at === 0 || words.startsWith(seen[at - 1]), `${words} does not go on from ${seen[at - 1]}`);
  }
  assert.match(await page.locator('body').innerText(), /no language model is behind it/);
});
