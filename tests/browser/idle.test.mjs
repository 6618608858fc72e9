// A real code-server in a tab that is left open: its session is stopped, and whoever wants to keep it can.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import { CodeServer, itsOwn, Window } from './code-server.mjs';
import { picture, scenario, state } from './harness.mjs';
import { outside } from './services.mjs';

const FILES = { 'notes.md': '# A heading\n' };
// An editor that was just opened is busy for a while.
const SETTLED = 150_000;

let server;
before(async () => { server = await CodeServer.start(); });
after(() => server?.end());

scenario('code-server in a tab that is left open is stopped after a countdown, and kept by a button and by typing', {
  settings: () => ['idle.after=3s', 'idle.countdown=12s', 'service.vscode.input_frames=3',
    ...outside(server.port)],
  says: itsOwn,
}, async ({ page, context, gateway }) => {
  const window = new Window(page, await server.workspace('idle', FILES));
  await window.load(gateway.at(`vscode/?folder=${encodeURIComponent(window.folder)}`));
  await window.edit('notes.md');
  const own = await context.newPage();
  const button = own.getByRole('button', { name: 'Keep it running' });
  const status = async () => (await context.request.get(gateway.at('-/status'))).json();
  // An editor that is still busy with itself may take it back at once.
  const announced = async () => {
    for (;;) {
      await button.waitFor({ timeout: SETTLED });
      const { stop } = await status();
      if (stop) return stop;
    }
  };

  await own.goto(gateway.url);
  const first = await announced();
  await picture(own, 'idle countdown');
  assert.match(await own.getByRole('timer').innerText(), /stopped in \d+ s/);
  await button.click();
  await own.waitForSelector('body[data-state="running"]');
  assert.notEqual((await status()).stop, first);

  const second = await announced();
  await page.locator('.monaco-editor .view-lines').first().click();
  // Faster than people do, as the windows in which it has to be enough are shorter, too.
  await page.keyboard.type('somebody is at work, after all. '.repeat(2), { delay: 30 });
  // As soon as it was typed, and not only when the page looks again.
  assert.notEqual((await status()).stop, second);
  assert.equal((await status()).state, 'running');

  await announced();
  await state(own, 'stopped');
  await picture(own, 'idle stopped');
  assert.equal((await status()).state, 'stopped');
});
