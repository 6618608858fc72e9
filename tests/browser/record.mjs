// Records what open pages send and are sent while somebody, or nobody, uses them: `tests/activity` holds the outcome,
// from which the rule of what counts as use was settled. Takes a little over ten minutes, which are the longest of its
// recordings:
//
//     SESSION_GATEWAY=… CHROMIUM=… NODE_PATH=… CODE_SERVER=… node tests/browser/record.mjs [NAME…]
//
// One line for each websocket frame, request and piece of an answer: milliseconds since the page was ready, number of
// the connection, `up` or `down`, opcode (`r` for a request, `b` for bytes of an answer), length of the payload.

import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { CodeServer, Window } from './code-server.mjs';
import { Gateway, needed } from './harness.mjs';
import { outside, vite } from './services.mjs';

const { chromium } = createRequire(import.meta.url)('playwright-core');
const HOST = '127.0.0.1';
const MINUTE = 60_000;
const FILES = { 'notes.md': '# A heading\n' };

/** The frames of one direction of a websocket, by their headers alone. */
class Frames {
  #bytes = Buffer.alloc(0);
  #skip = 0;

  *read(chunk) {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    for (;;) {
      const skipped = Math.min(this.#skip, this.#bytes.length);
      this.#bytes = this.#bytes.subarray(skipped);
      this.#skip -= skipped;
      const bytes = this.#bytes;
      if (this.#skip > 0 || bytes.length < 2) return;
      const short = bytes[1] & 0x7f;
      const head = { 126: 4, 127: 10 }[short] ?? 2;
      if (bytes.length < head) return;
      const long = { 126: () => bytes.readUInt16BE(2), 127: () => Number(bytes.readBigUInt64BE(2)) };
      const length = long[short]?.() ?? short;
      yield [bytes[0] & 0xf, length];
      this.#skip = head + (bytes[1] & 0x80 ? 4 : 0) + length;
    }
  }
}

/** A relay before the gateway that writes down what passes. */
class Recorder {
  #lines = [];
  #connections = 0;
  #begun;

  static async before(port) {
    const recorder = new Recorder();
    recorder.server = createServer({ allowHalfOpen: true }, (client) => recorder.#join(client, port));
    recorder.server.listen(0, HOST);
    await once(recorder.server, 'listening');
    return recorder;
  }

  /** The page is ready: from here on it counts. */
  begin() {
    this.#begun = performance.now();
  }

  text() {
    return this.#lines.join('');
  }

  #say(connection, way, what, length) {
    if (this.#begun === undefined) return;
    const at = Math.round(performance.now() - this.#begun);
    this.#lines.push(`${at} ${connection} ${way} ${what} ${length}\n`);
  }

  #join(client, port) {
    const number = this.#connections;
    this.#connections += 1;
    const gateway = connect({ host: HOST, port, allowHalfOpen: true });
    let frames;
    const watch = (way) => (bytes) => {
      if (frames) {
        for (const [opcode, length] of frames[way].read(bytes)) this.#say(number, way, opcode, length);
      } else if (way === 'up') {
        if (/^[A-Z]+ \//.test(bytes.toString('latin1', 0, 20))) this.#say(number, way, 'r', bytes.length);
      } else if (bytes.toString('latin1', 0, 12) === 'HTTP/1.1 101') {
        const end = bytes.indexOf('\r\n\r\n') + 4;
        frames = { up: new Frames(), down: new Frames() };
        watch(way)(bytes.subarray(end));
      } else {
        this.#say(number, way, 'b', bytes.length);
      }
    };
    client.on('data', watch('up'));
    gateway.on('data', watch('down'));
    for (const [from, to] of [[client, gateway], [gateway, client]]) {
      from.setNoDelay(true);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroySoon());
    }
  }
}

/** A word of text at the pace of somebody who thinks: a key each one to seven seconds. */
async function slowly(page, time) {
  const end = performance.now() + time;
  const pace = [1000, 3500, 1500, 7000, 2000, 5000];
  for (let key = 0; performance.now() < end; key += 1) {
    await page.keyboard.press('abc '[key % 4]);
    await wait(pace[key % pace.length]);
  }
}

/** A recording of an editor of its own: one tells all its windows what the terminals of the others print. */
const ed = (prepare, use) => async (page, name) => {
  const server = await CodeServer.start();
  try {
    await recorded(outside(server.port), async (address, recorder) => {
      const window = new Window(page, await server.workspace(name, FILES));
      await window.load(`${address}/vscode/?folder=${encodeURIComponent(window.folder)}`);
      await prepare(window);
      // What an editor does when it has just been opened is over by then.
      await wait(MINUTE);
      recorder.begin();
      await use(window);
    }, name);
  } finally {
    await server.end();
  }
};

const plain = (service, settings, use) => async (page, name) => {
  await recorded(settings(), async (address, recorder) => {
    await page.goto(`${address}/${service}/`);
    await page.waitForSelector('body:not([data-state])');
    await wait(5000);
    recorder.begin();
    await use(page);
  }, name);
};

/** Writes down what passes a gateway with these settings. */
async function recorded(settings, play, name) {
  const own = await mkdtemp(join(folder, 'gateway-'));
  const gateway = await Gateway.start(own, { settings: () => settings });
  const recorder = await Recorder.before(gateway.port);
  try {
    await play(`http://${HOST}:${recorder.server.address().port}/${gateway.id}`, recorder);
    await writeFile(join(traces, `${name}.txt`), recorder.text());
  } finally {
    recorder.server.close();
    await gateway.end();
  }
}

const terminal = (window) => window.openTerminal('recorded');
const enter = async ({ page }, command) => {
  await page.locator('.terminal-wrapper.active .xterm-screen').click();
  await page.keyboard.type(`${command}\n`);
};

const RECORDINGS = {
  'editor-untouched': ed(() => {}, () => wait(10 * MINUTE)),
  'editor-typing': ed(async (window) => {
    await window.edit('notes.md');
    await window.page.locator('.monaco-editor .view-lines').first().click();
  }, ({ page }) => slowly(page, 2 * MINUTE)),
  'terminal-typing': ed(terminal, ({ page }) => slowly(page, 2 * MINUTE)),
  'terminal-printing': ed(async (window) => {
    await terminal(window);
    await enter(window, 'while :; do date; sleep 1; done');
  }, () => wait(2 * MINUTE)),
  'terminal-building': ed(async (window) => {
    await terminal(window);
    await enter(window, 'while :; do seq 300 | sed "s/^/   Compiling something-long v0.1./"; sleep 0.2; done');
  }, () => wait(MINUTE)),
  'preview-untouched': plain('preview', () => vite(folder), () => wait(5 * MINUTE)),
  'chat-answer': plain('chat', () => [], async (page) => {
    await page.getByRole('textbox', { name: 'Message' }).fill('Hello there');
    await page.getByRole('button', { name: 'Send' }).click();
    await wait(MINUTE / 2);
  }),
};

const folder = await mkdtemp(join(tmpdir(), 'session-gateway-record-'));
const browser = await chromium.launch({ executablePath: needed('CHROMIUM'), args: ['--no-sandbox'] });
const wanted = process.argv.slice(2);
const traces = fileURLToPath(new URL('../activity/', import.meta.url));
const record = async (name) => {
  const context = await browser.newContext();
  await RECORDINGS[name](await context.newPage(), name);
  await context.close();
  console.log(`${name} recorded`);
};
try {
  const names = Object.keys(RECORDINGS).filter((name) => wanted.length === 0 || wanted.includes(name));
  // The longest beside all others, which come one after another: a machine that is busy makes pages slow.
  const [first, ...others] = names;
  const inTurn = async () => {
    for (const name of others) await record(name);
  };
  await Promise.all([record(first), inTurn()]);
} finally {
  await browser.close();
  await rm(folder, { recursive: true });
}
