// A real development server, Vite, behind a public name: what is edited is replaced in the open page, without a reload.

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { arrived, NO_ICON, scenario } from './harness.mjs';
import { vite } from './services.mjs';

/** Waits until the page hears of edits: one before that would be lost. */
function listening(page) {
  return page.waitForEvent('console', (message) => message.text() === '[vite] connected.');
}

/** Edits the component, and shows that it is replaced while the page and its state stay. */
async function replaced({ page, folder }, before, after) {
  const button = page.getByRole('button');
  await page.evaluate(() => { window.mark = 'not reloaded'; });
  for (let count = 0; count < 3; count += 1) {
    await page.getByRole('button', { name: `${before}: ${count}`, exact: true }).click();
  }
  const file = join(folder, 'app', 'Counter.jsx');
  const text = await readFile(file, 'utf8');
  assert.ok(text.includes(before));
  await writeFile(file, text.replace(before, after));
  await page.getByRole('button', { name: after }).waitFor();
  assert.equal(await button.innerText(), `${after}: 3`);
  assert.equal(await page.evaluate(() => window.mark), 'not reloaded');
}

/** Waits until the page that was left to itself has reloaded itself, which is what Vite does after a cut. */
async function back(page, cut) {
  const heard = listening(page);
  await cut();
  await heard;
  assert.equal(await page.evaluate(() => window.mark), undefined);
}

// What its client says while it finds nobody.
const lost = /\(\S+\/preview\/@vite\/client\)$/;

/** A scenario in which the app is open, and in the end each of its pages had its socket in the right place. */
function dev(name, options, play) {
  scenario(name, { settings: vite, isRelayed: true, says: [NO_ICON, lost], ...options }, async (line) => {
    const { page, gateway, open } = line;
    const sockets = [];
    page.on('websocket', (socket) => sockets.push(socket.url()));
    const heard = listening(page);
    await open('preview/');
    await arrived(page);
    await heard;
    await replaced(line, 'as written', 'as edited');
    await back(page, () => gateway.relay.cut());
    await replaced(line, 'as edited', 'after the cut');
    const pages = 2 + await play(line);
    const own = gateway.at('preview/?token=').replace(/^http/, 'ws');
    assert.deepEqual(sockets.map((url) => url.slice(0, own.length)), Array.from({ length: pages }, () => own));
  });
}

dev('Vite replaces what is edited, also after a cut', { isPublic: true }, () => 0);

dev('Vite replaces what is edited over TLS, also after a cut and after the gateway was restarted', {
  isEncrypted: true,
}, async (line) => {
  // Vite ends with the gateway; the page itself asks for it again.
  await back(line.page, () => line.gateway.restart());
  await replaced(line, 'after the cut', 'after the restart');
  return 1;
});
