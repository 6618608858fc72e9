// Runs a scenario: a real gateway on free ports and an empty data folder, and a real Chromium in front of it.
//
// Whatever the scenario does, it fails when a page asks for anything outside the session's own prefix, when a page's
// script throws, when the gateway does not end when told to, and when a process is left behind.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { accessSync } from 'node:fs';
import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';

// By `require`, which alone looks where NODE_PATH says.
const { chromium } = createRequire(import.meta.url)('playwright-core');

export const program = needed('SESSION_GATEWAY');
const ADDRESS = /http:\/\/127\.0\.0\.1:\d+\/([0-9a-f-]{36})\//;
// Ten times the longest that is meant, so that a busy machine fails nothing.
const PATIENCE = 30_000;
const SCENARIO = 240_000;
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
// What code-server's page asks for beside its own files: the list of extensions, which fails without harm, and
// addresses that its own service worker answers.
const OUTSIDE = [/^https:\/\/[^/]*open-vsx\.org\//, /^https:\/\/[^/]*\.vscode-cdn\.net\//];

let browser;
after(() => browser?.close());

/** Goes to an address. A page that refreshes itself may do so at that very moment, and its own visit wins. */
async function visit(page, url) {
  for (;;) {
    try {
      return await page.goto(url);
    } catch (error) {
      if (!error.message.includes('net::ERR_ABORTED')) throw error;
    }
  }
}

/**
 * A test in a browser.
 *
 * `settings` go to the gateway as `--set`, or a function makes them from the scenario's temporary folder; with
 * `codeServer`, one is on its PATH. `browser` goes to the browser's context. `outside` lists addresses beyond the
 * session's prefix that the scenario itself opens.
 */
export function scenario(name, options, play) {
  test(name, { timeout: SCENARIO }, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'session-gateway-browser-'));
    t.after(() => rm(folder, { recursive: true }));
    const gateway = await Gateway.start(folder, options);
    const faults = [];
    let view;
    try {
      view = await View.open(gateway, options);
      const { page, context } = view;
      await play({ page, context, gateway, folder, open: (path) => visit(page, gateway.at(path)) });
      view.assertClean();
    } catch (error) {
      await view?.saw(name);
      faults.push(`${error.stack}\n${view?.recorded()}\n${gateway.output()}`);
    }
    await view?.context.close();
    await gateway.end().catch((error) => faults.push(error.stack));
    assert.equal(faults.length, 0, faults.join('\n\n'));
  });
}

/** Saves a picture of the page into the folder that SCREENSHOTS names, if it names one. */
export async function picture(page, name) {
  if (process.env.SCREENSHOTS) {
    const file = `${name.replaceAll(/[^a-z0-9]+/gi, '-')}.png`;
    await page.screenshot({ path: join(process.env.SCREENSHOTS, file), fullPage: true });
  }
}

/** Waits for the page's state, as its body tells it; pages follow it by themselves. */
export async function state(page, ...states) {
  await page.waitForSelector(states.map((one) => `body[data-state="${one}"]`).join(), { timeout: PATIENCE });
}

/** Waits until the page is none of the gateway's own any more, but what was asked for. */
export async function arrived(page) {
  await page.waitForSelector('body:not([data-state])', { timeout: PATIENCE });
}

function needed(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set; tests/run --only browser sets it`);
  return value;
}

/** A gateway of one scenario. */
export class Gateway {
  #process;
  #ended;
  #lines = [];

  static async start(folder, { settings = [], codeServer = false }) {
    const gateway = new Gateway();
    const given = typeof settings === 'function' ? settings(folder) : settings;
    const own = ['listen=127.0.0.1:0', 'admin.listen=127.0.0.1:0', `local.data=${folder}/data`];
    const words = [...own, ...given].flatMap((setting) => ['--set', setting]);
    gateway.mark = `BROWSER_TEST=${randomUUID()}`;
    const env = { PATH: path(codeServer), HOME: folder, BROWSER_TEST: gateway.mark.split('=')[1] };
    gateway.folder = folder;
    gateway.#process = spawn(program, ['serve', ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    gateway.#ended = new Promise((resolve) => gateway.#process.on('exit', (code, signal) => resolve(signal ?? code)));
    try {
      gateway.url = await gateway.#address();
    } catch (error) {
      gateway.#process.kill('SIGKILL');
      throw error;
    }
    gateway.id = ADDRESS.exec(gateway.url)[1];
    gateway.origin = new URL(gateway.url).origin;
    return gateway;
  }

  /** An address of the session, by its path below the session's own. */
  at(path = '') {
    return `${this.url}${path}`;
  }

  output() {
    return `the gateway's output:\n${this.#lines.slice(-100).join('\n')}`;
  }

  /** Ends the gateway as an operator would, and proves that nothing of it is left. */
  async end() {
    this.#process.kill('SIGTERM');
    const code = await within(PATIENCE, this.#ended);
    if (code === undefined) {
      this.#process.kill('SIGKILL');
    }
    assert.equal(code, 0, `the gateway did not end well after SIGTERM\n${this.output()}`);
    const left = await this.#left();
    for (const { pid } of left) process.kill(pid, 'SIGKILL');
    assert.deepEqual(left.map(({ command }) => command), [], 'processes were left behind');
  }

  async #address() {
    const found = new Promise((resolve, reject) => {
      for (const stream of [this.#process.stdout, this.#process.stderr]) {
        createInterface({ input: stream }).on('line', (line) => {
          this.#lines.push(line);
          const address = ADDRESS.exec(line);
          if (address) resolve(address[0]);
        });
      }
      this.#ended.then((code) => reject(new Error(`the gateway ended (${code})\n${this.output()}`)));
    });
    const address = await within(PATIENCE, found);
    assert.ok(address, `the gateway printed no session's address\n${this.output()}`);
    return address;
  }

  /** Living processes that descend from this gateway: by the environment they inherited, or by the scenario's own
   * folder, in which they work or which they were told. */
  async #left() {
    const found = [];
    for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
      const read = (what) => readFile(`/proc/${pid}/${what}`, 'utf8').catch(() => '');
      const folder = await readlink(`/proc/${pid}/cwd`).catch(() => '');
      const [environment, command] = [await read('environ'), await read('cmdline')];
      const isOurs = environment.includes(this.mark) || folder.startsWith(this.folder) || command.includes(this.folder);
      if (isOurs && command) found.push({ pid: Number(pid), command: command.replaceAll('\0', ' ') });
    }
    return found;
  }
}

/** The PATH of the gateway: with a working code-server on it, or without any. */
function path(codeServer) {
  const hasOne = (folder) => {
    try {
      accessSync(join(folder, 'code-server'));
      return true;
    } catch {
      return false;
    }
  };
  const folders = process.env.PATH.split(delimiter).filter((folder) => !hasOne(folder));
  return [...(codeServer ? [needed('CODE_SERVER')] : []), ...folders].join(delimiter);
}

/** The value of a promise, or nothing after a time. */
async function within(milliseconds, promise) {
  let timer;
  const late = new Promise((resolve) => { timer = setTimeout(resolve, milliseconds); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A browser's context of one scenario, which records what its pages do. */
class View {
  #gateway;
  #outside;
  #escapes = [];
  #errors = [];

  static async open(gateway, { browser: options = {}, outside = () => [] }) {
    browser ??= await chromium.launch({ executablePath: needed('CHROMIUM'), headless: true, args: FLAGS });
    const view = new View();
    view.#gateway = gateway;
    view.#outside = outside(gateway);
    view.context = await browser.newContext(options);
    view.context.setDefaultTimeout(PATIENCE);
    view.context.on('request', (request) => view.#asked(request.url()));
    view.context.on('weberror', (web) => view.#errors.push(String(web.error())));
    view.context.on('page', (page) => page.on('websocket', (socket) => view.#asked(socket.url())));
    view.page = await view.context.newPage();
    return view;
  }

  #asked(url) {
    const isOwn = url.replace(/^ws/, 'http').startsWith(this.#gateway.url);
    const isInner = /^(about|blob|data):/.test(url);
    const isKnown = this.#outside.includes(url) || OUTSIDE.some((known) => known.test(url));
    if (!isOwn && !isInner && !isKnown) this.#escapes.push(url);
  }

  assertClean() {
    assert.deepEqual(this.#escapes, [], 'requests left the session\'s prefix');
    assert.deepEqual(this.#errors, [], 'scripts of the page threw');
  }

  recorded() {
    const list = (things) => things.join('\n  ') || 'none';
    return `the page: ${this.page.url()}\nrequests outside the prefix: ${list(this.#escapes)}\n`
      + `errors of scripts: ${list(this.#errors)}`;
  }

  /** Keeps how a failed scenario looked. A page that has crashed has no picture: the first error is what counts. */
  async saw(name) {
    await picture(this.page, `failed ${name}`).catch(() => {});
  }
}
