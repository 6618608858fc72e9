// Editing: what is saved in the editor is what the preview shows, without a reload by hand, and it survives a stop.

import assert from 'node:assert/strict';

import { itsOwn } from './code-server.mjs';
import { arrived, scenario, state } from './harness.mjs';

/** Opens the preview in a tab of its own; a mark on its window tells a reload of the page from a visitor's. */
async function preview({ context, gateway }) {
  const page = await context.newPage();
  await page.goto(gateway.at('preview/'));
  await arrived(page);
  return page;
}

const WORDS = 'written by the scenario';

scenario('the built-in editor saves, the open preview changes, and a stop keeps the file', {
  // Of the preview, which connects again while it is stopped.
  says: [/^WebSocket connection to '\S+\/preview\/\S+\/reload' failed: .* 503/],
}, async (line) => {
  const { page, open } = line;
  const shown = await preview(line);
  await open('vscode/');
  await page.getByRole('treeitem', { name: 'index.html' }).click();
  const text = page.getByRole('textbox', { name: 'Text of the file' });
  const before = await text.inputValue();
  assert.match(before, /<h1/);
  await text.fill(before.replace(/<h1[^>]*>.*?<\/h1>/s, `<h1>${WORDS}</h1>`));
  await page.getByRole('button', { name: 'Save' }).click();
  await shown.getByRole('heading', { name: WORDS }).waitFor();

  await open();
  await page.click('form[action$="/-/stop"] button');
  await state(page, 'stopped');
  await page.click('form[action$="/-/start"] button');
  await state(page, 'running');
  await open('preview/');
  await page.getByRole('heading', { name: WORDS }).waitFor();
});

scenario('a save in code-server changes the open preview', { codeServer: true, says: itsOwn }, async (line) => {
  const { page, open } = line;
  const shown = await preview(line);
  await open('vscode/');
  // The page says 200 and draws its frame long before it works; a row of the file list is there when it does.
  const file = page.locator('.monaco-list-row:has-text("index.html")');
  await file.waitFor({ timeout: 120_000 });
  await file.dblclick();
  const editor = page.locator('.monaco-editor').first();
  await editor.locator('.view-line').first().click();
  await page.keyboard.press('Control+Home');
  await page.keyboard.insertText(`<p>${WORDS}</p>`);
  await page.keyboard.press('Control+S');
  await shown.getByText(WORDS).waitFor();
});
