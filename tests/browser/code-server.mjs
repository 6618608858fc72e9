// A code-server beside the gateway, which outlives it as a session's pod does, and its windows in a browser.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { watch } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { needed, NO_ICON, within } from './harness.mjs';

const LISTENING = /HTTP server listening on http:\/\/127\.0\.0\.1:(\d+)/;
const FLAGS = ['--auth', 'none', '--bind-addr', '127.0.0.1:0', '--disable-telemetry', '--disable-update-check',
  '--disable-workspace-trust', '--disable-getting-started-override'];
// Nothing that asks addresses elsewhere, and nothing that takes keys which are meant for the text or the shell.
const SETTINGS = {
  'chat.disableAIFeatures': true,
  'editor.quickSuggestions': { other: 'off' },
  'extensions.autoCheckUpdates': false,
  'files.autoSave': 'off',
  'remote.autoForwardPorts': false,
  'terminal.integrated.suggest.enabled': false,
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'workbench.startupEditor': 'none',
};
// Longer than for other pages: this one draws its frame long before it works, and keeps a processor busy for seconds.
const PATIENCE = 120_000;

/** What its own scripts write to the console of a page, and what is said there of what they do not get: files of its
 * own, its icon, and the list of extensions. */
export const itsOwn = [/\(https?:\/\/\S+\/vscode\/stable-\S+\)$/, NO_ICON, /\(https:\/\/[^/]*open-vsx\.org\/\S+\)$/];

/** A code-server on a port of its own. */
export class CodeServer {
  #process;
  #ended;
  #lines = [];

  static async start() {
    const server = new CodeServer();
    server.folder = await mkdtemp(join(tmpdir(), 'session-gateway-code-server-'));
    const data = join(server.folder, 'data');
    await mkdir(join(data, 'User'), { recursive: true });
    await writeFile(join(data, 'User/settings.json'), JSON.stringify(SETTINGS));
    const own = ['--user-data-dir', data, '--extensions-dir', join(server.folder, 'extensions')];
    const env = { PATH: process.env.PATH, HOME: server.folder, SHELL: '/bin/sh' };
    // A group of its own, since it is many processes.
    server.#process = spawn(join(needed('CODE_SERVER'), 'code-server'), [...FLAGS, ...own],
      { env, cwd: server.folder, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    server.#ended = once(server.#process, 'exit');
    try {
      server.port = await within(PATIENCE, server.#listening());
      assert.ok(server.port, `code-server does not listen\n${server.#lines.join('\n')}`);
    } catch (error) {
      await server.end();
      throw error;
    }
    return server;
  }

  /** A folder to work in, with these files. */
  async workspace(name, files) {
    const folder = join(this.folder, name);
    await mkdir(folder);
    for (const [file, text] of Object.entries(files)) await writeFile(join(folder, file), text);
    return folder;
  }

  async end() {
    // All of it at once: what is told to end first would leave others behind for seconds.
    if (this.#process.exitCode === null) process.kill(-this.#process.pid, 'SIGKILL');
    await this.#ended;
    await rm(this.folder, { recursive: true, maxRetries: 10 });
  }

  #listening() {
    return new Promise((resolve, reject) => {
      for (const stream of [this.#process.stdout, this.#process.stderr]) {
        createInterface({ input: stream }).on('line', (line) => {
          this.#lines.push(line);
          const port = LISTENING.exec(line)?.[1];
          if (port) resolve(Number(port));
        });
      }
      this.#ended.then(() => reject(new Error(`code-server ended\n${this.#lines.join('\n')}`)));
    });
  }
}

/** Waits until there is a file of which this is so, and returns its text. */
export async function written(folder, file, isIt = (text) => text.endsWith('\n')) {
  const read = () => readFile(join(folder, file), 'utf8').catch(() => '');
  const changes = watch(folder);
  const found = new Promise((resolve) => {
    const look = async () => {
      const text = await read();
      if (isIt(text)) resolve(text);
    };
    changes.on('change', look);
    look();
  });
  const text = await within(PATIENCE, found);
  changes.close();
  return text ?? assert.fail(`${file} says otherwise: ${JSON.stringify(await read())}`);
}

/** One window of the editor, on a folder of its own. */
export class Window {
  #sockets = [];
  #news = () => {};

  constructor(page, folder) {
    this.page = page;
    this.folder = folder;
    page.setDefaultTimeout(PATIENCE);
    page.on('websocket', (socket) => this.#watch(socket));
  }

  /** Goes to an address, or loads its own again. Waits until the list of files is there, and its two websockets. */
  async load(url) {
    do {
      // Those of a page that is left do not say that they are closed.
      this.#sockets = [];
      await (url ? this.page.goto(url) : this.page.reload());
      await this.#row('notes.md').waitFor();
      await this.#until((working) => working.length >= 2);
      // On a busy machine it gives up one that is slow, opens another, and leaves the first open for good.
    } while (this.#working().length > 2);
    assert.ok(this.#sockets.every(({ isAgain }) => !isAgain));
  }

  /** Called when its websockets are about to be lost: waits until they, and no others, work again. */
  async returns() {
    const names = this.#working().map(({ name }) => name).sort();
    assert.equal(names.length, 2);
    // From here on only those count that are opened anew.
    this.#sockets = [];
    await this.#until((working) => working.length === 2);
    assert.deepEqual(this.#working().map(({ name }) => name).sort(), names);
    assert.ok(this.#sockets.every(({ isAgain }) => isAgain));
  }

  /** Opens a file. */
  async edit(file) {
    await this.#row(file).dblclick();
    await this.#text(file).waitFor();
  }

  /** Puts words before all others of an open file, and saves it. */
  async write(file, words) {
    const before = await readFile(join(this.folder, file), 'utf8');
    await this.#text(file).click();
    await this.page.keyboard.press('Control+Home');
    await this.page.keyboard.type(words);
    await this.page.keyboard.press('Control+S');
    await written(this.folder, file, (text) => text === words + before);
  }

  /** Opens a terminal and gives its shell a mark. */
  async openTerminal(mark) {
    await this.page.keyboard.press('Control+Backquote');
    await this.#enter(`mark=${mark}`);
    this.shell = await this.ask('opened');
    assert.match(this.shell, new RegExp(`^${mark} \\d+\n$`));
  }

  /** Which shell is in the terminal: the mark that it was given, and its process. It answers in a file. */
  async ask(file) {
    await this.#enter(`echo $mark $$ > ${file}`);
    return written(this.folder, file);
  }

  /** Runs a command of the editor by its name. */
  async command(name) {
    await this.page.keyboard.press('F1');
    await this.page.locator('.quick-input-widget input').fill(`>${name}`);
    await this.page.locator('.quick-input-list .monaco-list-row', { hasText: name }).first().click();
  }

  /** What is shown inside of its webview. */
  webview() {
    return this.page.frameLocator('iframe.webview').frameLocator('#active-frame');
  }

  async #enter(command) {
    await this.page.locator('.terminal-wrapper.active .xterm-screen').click();
    await this.page.keyboard.type(`${command}\n`);
  }

  /** The lines of an open file. */
  #text(file) {
    return this.page.locator(`.monaco-editor[data-uri$="/${file}"] .view-lines`).first();
  }

  #row(file) {
    return this.page.locator(`.explorer-folders-view .monaco-list-row:has-text("${file}")`);
  }

  #watch(socket) {
    const { searchParams } = new URL(socket.url());
    const one = { name: searchParams.get('reconnectionToken'), isAgain: searchParams.get('reconnection') === 'true' };
    this.#sockets.push(one);
    const become = (works) => () => {
      one.works = works;
      this.#news();
    };
    socket.on('framereceived', become(true));
    socket.on('close', become(false));
  }

  #working() {
    return this.#sockets.filter(({ works }) => works);
  }

  /** Waits until this is so of the websockets that work. */
  async #until(isSo) {
    const found = new Promise((resolve) => {
      this.#news = () => isSo(this.#working()) && resolve(true);
      this.#news();
    });
    assert.ok(await within(PATIENCE, found), `its websockets: ${JSON.stringify(this.#sockets)}`);
  }
}
