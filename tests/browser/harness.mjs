// Runs a scenario: a real gateway on free ports and an empty data folder, and a real Chromium in front of it.
//
// Whatever the scenario does, it fails when a page asks for anything outside the session's own prefix, when a page's
// script throws, when there is an error on a page's console or the browser forbids a page something, when the gateway
// does not end when told to, and when a process is left behind.

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

import { Relay } from './relay.mjs';
import * as tls from './tls.mjs';

// By `require`, which alone looks where NODE_PATH says.
const { chromium } = createRequire(import.meta.url)('playwright-core');

export const program = needed('SESSION_GATEWAY');
const ADDRESS = /(https?):\/\/127\.0\.0\.1:(\d+)\/([0-9a-f-]{36})\//;
const ADMIN = /Operators' port +(\S+)\//;
// Ten times the longest that is meant, so that a busy machine fails nothing.
export const PATIENCE = 30_000;
const SCENARIO = 240_000;
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', ...tls.flags()];
// What code-server's page asks for beside its own files: the list of extensions, which fails without harm, and
// addresses that its own service worker answers.
const OUTSIDE = [/^https:\/\/[^/]*open-vsx\.org\//, /^https:\/\/[^/]*\.vscode-cdn\.net\//];

// How the browser says on a page's console that it forbids something.
const FORBIDDEN = /content security policy|mixed content/i;
// What it says there of every answer that is no success, as that of the waiting page.
const ANSWERED = /^Failed to load resource: the server responded with a status of \d+/;
// And of a service whose page names no icon: the browser asks for one by itself.
export const NO_ICON = / 404 .*\(https?:\/\/[^/]+\/favicon\.ico\)$/;

let browser;
// Bounded, so that a browser that does not end fails its tests and does not hold them up.
after(() => browser?.close(), { timeout: PATIENCE });

/** Goes to an address. A page that follows its session may go somewhere at that very moment, and its own visit wins:
 * the browser says so, or is silent for good. */
async function visit(page, url) {
  for (let tries = 1; ; tries++) {
    try {
      return await page.goto(url, { timeout: PATIENCE / 3 });
    } catch (error) {
      const isSilent = error.name === 'TimeoutError' && tries < 3;
      if (!isSilent && !error.message.includes('net::ERR_ABORTED')) throw error;
    }
  }
}

/**
 * A test in a browser.
 *
 * `settings` go to the gateway as `--set`, or a function makes them from the scenario's temporary folder; with
 * `codeServer`, one is on its PATH. `isPublic` gives it a public name, `isEncrypted` TLS as well; with `isRelayed`,
 * clients come through a relay, `gateway.relay`. `browser` goes to the browser's context. Its pages may write no error
 * to their consoles but what `says` lists, each with the address it comes from behind it; `forbids` is what the browser
 * is meant to forbid. `outside` lists addresses beyond the session's prefix that the scenario itself opens; `inside` is
 * the part of the session that pages may not leave. `isAdmin`: it is about the operators' port, and its pages may not
 * leave that.
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
      const { page, context, asked } = view;
      await play({ page, context, gateway, folder, asked, open: (path) => visit(page, gateway.at(path)) });
      view.assertClean();
    } catch (error) {
      await view?.saw(name);
      faults.push(`${error.stack}\n${await view?.recorded()}\n${gateway.output()}`);
    }
    // Chromium never answers, now and then, where a page begins to go somewhere at that very moment.
    await within(PATIENCE / 10, view?.context.close());
    await gateway.end().catch((error) => faults.push(error.stack));
    assert.equal(faults.length, 0, faults.join('\n\n'));
  });
}

/** A test of a gateway with clients other than a browser. `end` ends it before the test does. */
export function withGateway(name, options, play) {
  test(name, { timeout: SCENARIO }, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'session-gateway-test-'));
    t.after(() => rm(folder, { recursive: true }));
    const gateway = await Gateway.start(folder, options);
    let ending;
    const end = () => (ending ??= gateway.end());
    try {
      await play({ gateway, end });
    } finally {
      await end();
    }
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

/** Where the session stands, as its API tells. */
export async function status({ context, gateway }) {
  return (await context.request.get(gateway.at('-/status'))).json();
}

/** Waits until the page is none of the gateway's own any more, but what was asked for. */
export async function arrived(page) {
  await page.waitForSelector('body:not([data-state])', { timeout: PATIENCE });
}

export function needed(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set; tests/run --only browser sets it`);
  return value;
}

/** A gateway of one scenario. */
export class Gateway {
  #arguments;
  #process;
  #ended;
  #lines = [];

  static async start(folder, options) {
    const { settings = [], codeServer = false, isEncrypted = false, isPublic = isEncrypted, isRelayed } = options;
    const gateway = new Gateway();
    const given = typeof settings === 'function' ? await settings(folder) : settings;
    const own = ['listen=127.0.0.1:0', 'admin.listen=127.0.0.1:0', `local.data=${folder}/data`,
      ...(isPublic ? [`hosts={${tls.NAME}}`] : []), ...(isEncrypted ? tls.settings(folder) : [])];
    const words = [...own, ...given].flatMap((setting) => ['--set', setting]);
    gateway.mark = `BROWSER_TEST=${randomUUID()}`;
    const env = { PATH: path(codeServer), HOME: folder, BROWSER_TEST: gateway.mark.split('=')[1] };
    gateway.folder = folder;
    gateway.#arguments = [['serve', ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] }];
    const [, scheme, port, id] = await gateway.#run();
    gateway.relay = isRelayed && await Relay.to(port);
    gateway.port = gateway.relay ? gateway.relay.port : Number(port);
    gateway.id = id;
    gateway.origin = `${scheme}://${isPublic ? tls.NAME : '127.0.0.1'}:${gateway.port}`;
    gateway.url = `${gateway.origin}/${id}/`;
    return gateway;
  }

  /** Ends the gateway and starts another in its place, to which the relay leads. */
  async restart() {
    await this.#end();
    const [, , port] = await this.#run();
    this.relay.lead(port);
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
    await this.#end().finally(() => this.relay?.close());
    const left = await this.#left();
    for (const { pid } of left) process.kill(pid, 'SIGKILL');
    assert.deepEqual(left.map(({ command }) => command), [], 'processes were left behind');
  }

  async #end() {
    this.#process.kill('SIGTERM');
    const code = await within(PATIENCE, this.#ended);
    if (code === undefined) {
      this.#process.kill('SIGKILL');
    }
    assert.equal(code, 0, `the gateway did not end well after SIGTERM\n${this.output()}`);
  }

  /** Starts the program; what its address consists of. */
  async #run() {
    this.#process = spawn(program, ...this.#arguments);
    this.#ended = new Promise((resolve) => this.#process.on('exit', (code, signal) => resolve(signal ?? code)));
    try {
      return await this.#address();
    } catch (error) {
      this.#process.kill('SIGKILL');
      throw error;
    }
  }

  async #address() {
    let address;
    const found = new Promise((resolve, reject) => {
      for (const stream of [this.#process.stdout, this.#process.stderr]) {
        createInterface({ input: stream }).on('line', (line) => {
          this.#lines.push(line);
          address ??= ADDRESS.exec(line);
          const admin = ADMIN.exec(line);
          if (admin) {
            [, this.admin] = admin;
            resolve(address);
          }
        });
      }
      this.#ended.then((code) => reject(new Error(`the gateway ended (${code})\n${this.output()}`)));
    });
    await within(PATIENCE, found);
    assert.ok(address && this.admin, `the gateway printed no session's address\n${this.output()}`);
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
export async function within(milliseconds, promise) {
  let timer;
  const late = new Promise((resolve) => { timer = setTimeout(resolve, milliseconds); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What is asked for at an address: all of it but its fragment. */
export function whole(url) {
  return url.split('#')[0];
}

/** A browser's context of one scenario, which records what its pages do. */
class View {
  #inside;
  #follows;
  #outside;
  #says;
  #forbids;
  // The addresses that its pages were at, or tried to.
  #visited = new Set();
  #escapes = [];
  #errors = [];
  // The last of what its pages wrote to their consoles.
  #console = [];

  /** All addresses that were asked for, those of websockets included. */
  asked = [];

  static async open(gateway, { browser: options = {}, outside = () => [], inside = '', isAdmin, says = [], forbids }) {
    browser ??= await chromium.launch({ executablePath: needed('CHROMIUM'), headless: true, args: FLAGS });
    const view = new View();
    view.#follows = gateway.at('-/');
    view.#inside = isAdmin ? `${gateway.admin}/` : gateway.at(inside);
    view.#says = says;
    view.#forbids = forbids;
    view.#outside = outside(gateway);
    view.context = await browser.newContext(options);
    view.context.setDefaultTimeout(PATIENCE);
    view.context.on('request', (request) => {
      if (request.isNavigationRequest()) view.#visited.add(whole(request.url()));
      view.#asked(request.url());
    });
    view.context.on('console', (message) => view.#said(message));
    view.context.on('weberror', (web) => view.#errors.push(String(web.error())));
    view.context.on('page', (page) => page.on('websocket', (socket) => view.#asked(socket.url())));
    view.page = await view.context.newPage();
    return view;
  }

  #asked(url) {
    this.asked.push(url);
    // The gateway's own pages follow the session by its events.
    const isOwn = [this.#inside, this.#follows].some((own) => url.replace(/^ws/, 'http').startsWith(own));
    const isInner = /^(about|blob|data):/.test(url);
    const isKnown = this.#outside.includes(url) || OUTSIDE.some((known) => known.test(url));
    if (!isOwn && !isInner && !isKnown) this.#escapes.push(url);
  }

  #said(message) {
    const { url } = message.location();
    const text = `${message.text()} (${url})`;
    this.#console = [...this.#console.slice(-19), `${message.type()}: ${text}`];
    if (this.#forbids?.test(text)) return;
    const isAnswer = ANSWERED.test(text) && this.#visited.has(whole(url));
    const isMeant = isAnswer || this.#says.some((known) => known.test(text));
    if (FORBIDDEN.test(text) || (message.type() === 'error' && !isMeant)) this.#errors.push(text);
  }

  assertClean() {
    assert.deepEqual(this.#escapes, [], 'requests left the session\'s prefix');
    assert.deepEqual(this.#errors, [], 'there are errors on the console');
  }

  async recorded() {
    const list = (things) => things.join('\n  ') || 'none';
    // A page that has crashed, or is about to be another, has no text.
    const shown = await within(PATIENCE / 10, this.page.innerText('body').catch(() => 'nothing that can be read'));
    return `the page: ${this.page.url()}\nit shows: ${shown ?? 'nothing, it hangs'}\n`
      + `requests outside the prefix: ${list(this.#escapes)}\n`
      + `errors: ${list(this.#errors)}\ntheir consoles: ${list(this.#console)}`;
  }

  /** Keeps how a failed scenario looked. A page that has crashed has no picture: the first error is what counts. */
  async saw(name) {
    for (const [at, page] of this.context.pages().entries()) {
      await picture(page, `failed ${name} ${at}`).catch(() => {});
    }
  }
}
