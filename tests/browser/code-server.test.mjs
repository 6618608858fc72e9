// A real code-server for a day's work: two windows of one session, a network that fails, and a gateway that restarts.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import { CodeServer, itsOwn, Window } from './code-server.mjs';
import { picture, scenario } from './harness.mjs';
import { outside } from './services.mjs';

const FILES = {
  'notes.md': '# A heading\n\n![a picture](picture.svg)\n',
  'picture.svg': '<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"><rect width="7" height="7"/></svg>\n',
};
// Of both windows together.
const SOCKETS = 4;

/** Where it is opened, and how the browser then speaks to the gateway. */
const PLACES = {
  'on loopback': { protocol: 'http/1.1', hasSocketsApart: true },
  // Websockets come by RFC 8441, on the connection that everything else is on.
  'under a public name': { isEncrypted: true, protocol: 'h2', hasSocketsApart: false },
};

let server;
before(async () => { server = await CodeServer.start(); });
after(() => server?.end());

for (const [place, { protocol, hasSocketsApart, ...options }] of Object.entries(PLACES)) {
  scenario(`code-server ${place}: two windows work, and come back with their shells after a cut and a restart`, {
    ...options,
    inside: 'vscode/',
    isRelayed: true,
    says: itsOwn,
    settings: () => ['shutdown.websockets=1s', ...outside(server.port)],
  }, async ({ page, context, gateway, asked }) => {
    const windows = [];
    for (const tab of [page, await context.newPage()]) {
      windows.push(new Window(tab, await server.workspace(`${place} ${windows.length}`, FILES)));
    }
    const [one] = windows;
    const each = async (what, act) => {
      await Promise.all(windows.map(act));
      for (const [at, window] of windows.entries()) await picture(window.page, `code-server ${place} ${what} ${at}`);
    };
    // Of two windows that register the worker of webviews at one moment, VS Code may leave one without it.
    const inTurn = async (what, act) => {
      for (const [at, window] of windows.entries()) {
        await act(window);
        await picture(window.page, `code-server ${place} ${what} ${at}`);
      }
    };
    const isSameShell = (file) => async (window) => assert.equal(await window.ask(file), window.shell, file);

    await each('opens', (window) => window.load(gateway.at(`vscode/?folder=${encodeURIComponent(window.folder)}`)));
    assert.ok(await page.evaluate(() => isSecureContext));
    assert.equal(await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol), protocol);
    assert.equal(gateway.relay.open >= SOCKETS, hasSocketsApart, `${gateway.relay.open} connections`);

    // From here on it is as good as the other: whatever both do is done after a reload, too.
    await one.load();
    await each('saves', async (window) => {
      await window.edit('notes.md');
      await window.write('notes.md', '# Typed\n');
    });
    await inTurn('previews', async (window) => {
      await window.command('Markdown: Open Preview to the Side');
      await window.webview().getByRole('heading', { name: 'Typed' }).waitFor();
      // Its address is of another host, for which the service worker alone can answer.
      const image = window.webview().getByRole('img', { name: 'a picture' });
      assert.equal(await image.evaluate((it) => it.decode().then(() => it.naturalWidth)), 7);
    });
    await each('has a terminal', (window, at) => window.openTerminal(`window-${at}`));
    gateway.relay.cut();
    await each('comes back after a cut', (window) => window.returns());
    await each('has its shell after a cut', isSameShell('cut'));
    await Promise.all([gateway.restart(), each('comes back after a restart', (window) => window.returns())]);
    await each('has its shell after a restart', isSameShell('restarted'));
    await each('saves at last', async (window) => {
      await window.write('notes.md', '# At last\n');
      await window.webview().getByRole('heading', { name: 'At last' }).waitFor();
      assert.equal(await window.page.locator('.monaco-dialog-box').count(), 0, 'it asked its user something');
    });

    // The editor's own, and that of its webviews.
    const scopes = await page.evaluate(async () => {
      const workers = await navigator.serviceWorker.getRegistrations();
      return workers.map(({ scope }) => scope);
    });
    assert.equal(scopes.filter((scope) => scope.startsWith(gateway.at('vscode/'))).length, 2, scopes.join());
    assert.equal(scopes.length, 2, scopes.join());
    // The harness looks at each address; here, whether it saw them all. One window came four times, the other thrice.
    const sockets = asked.filter((url) => url.startsWith(gateway.at('vscode/stable-').replace(/^http/, 'ws')));
    assert.ok(sockets.length >= 2 * (4 + 3), sockets.join('\n'));
  });
}
