// Websockets of a page that came over HTTP/2: they share its one connection (RFC 8441).

import assert from 'node:assert/strict';

import { arrived, scenario } from './harness.mjs';
import { echo } from './services.mjs';

const options = { settings: echo, isEncrypted: true, isRelayed: true };
const MANY = 4;

/** Opens a page of the session over HTTP/2, and equips it for what follows. */
async function start({ page, open }) {
  await open('preview/');
  await arrived(page);
  const protocol = await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
  assert.equal(protocol, 'h2');
  await page.evaluate(equip);
}

/** A scenario whose websockets all go over the connection on which the page came. */
function tunnels(name, play) {
  scenario(name, options, async (line) => {
    await start(line);
    const { made } = line.gateway.relay;
    await play(line);
    assert.equal(line.gateway.relay.made, made, 'another connection was made');
  });
}

/** Gives the page what the scenarios use; runs inside it. */
function equip() {
  window.Tunnel = class {
    #arrived = [];
    #awaited = [];

    constructor() {
      this.socket = new WebSocket(new URL('../vscode/', location));
      this.socket.binaryType = 'arraybuffer';
      this.socket.onmessage = ({ data }) => {
        const take = this.#awaited.shift();
        if (take) take(data); else this.#arrived.push(data);
      };
      this.opened = new Promise((resolve, reject) => {
        this.socket.onopen = resolve;
        this.closed = new Promise((close) => {
          this.socket.onclose = ({ code, reason, wasClean }) => {
            reject(new Error(`closed with ${code}`));
            close([code, reason, wasClean]);
          };
        });
      });
      this.opened.catch(() => {});
    }

    static async open() {
      const tunnel = new this();
      await tunnel.opened;
      return tunnel;
    }

    next() {
      return this.#arrived.length ? this.#arrived.shift() : new Promise((resolve) => this.#awaited.push(resolve));
    }

    async ask(message) {
      this.socket.send(message);
      return this.next();
    }
  };

  /** Whether a message came back as it was. */
  window.isSame = (sent, came) => {
    if (typeof sent === 'string') return sent === came;
    const bytes = new Uint8Array(came);
    return came instanceof ArrayBuffer && bytes.length === sent.length && sent.every((byte, at) => byte === bytes[at]);
  };
}

tunnels('messages of a page come back over HTTP/2 as they were, from 1 B to 1 MiB', async ({ page }) => {
  const wrong = await page.evaluate(async (many) => {
    const all = await Promise.all(Array.from({ length: many }, () => Tunnel.open()));
    const wrong = [];
    for (let size = 1; size <= 1 << 20; size *= 4) {
      // Each websocket has bytes of its own, so that none can take those of another.
      await Promise.all(all.map(async (tunnel, which) => {
        const bytes = Uint8Array.from({ length: size }, (_, n) => n * n + which);
        if (!isSame(bytes, await tunnel.ask(bytes))) wrong.push(`${size} bytes of ${which}`);
        const text = `${which}ü`.repeat(Math.ceil(size / 3));
        if (!isSame(text, await tunnel.ask(text))) wrong.push(`a text of ${text.length} of ${which}`);
      }));
    }
    return wrong;
  }, MANY);
  assert.deepEqual(wrong, []);
});

tunnels('close codes and reasons pass both ways over HTTP/2', async ({ page }) => {
  const codes = [[1000, ''], [1001, 'page left'], [1011, 'broken'], [4000, 'own'], [4999, 'ä'.repeat(61)]];
  const ends = await page.evaluate((list) => Promise.all(list.map(async ([code, reason]) => {
    const tunnel = await Tunnel.open();
    tunnel.socket.send(`close ${code} ${reason}`);
    return tunnel.closed;
  })), codes);
  assert.deepEqual(ends, codes.map((code) => [...code, true]));

  // A page may say these alone.
  const own = codes.filter(([code]) => code === 1000 || code >= 3000);
  const answers = await page.evaluate((list) => Promise.all(list.map(async ([code, reason]) => {
    const tunnel = await Tunnel.open();
    tunnel.socket.close(code, reason);
    return tunnel.closed;
  })), own);
  assert.deepEqual(answers, own.map((code) => [...code, true]));
  const heard = await until(page, codes.length + own.length);
  const both = [...codes, ...own].map(([code, reason]) => ({ code, reason }));
  assert.deepEqual(sorted(heard), sorted(both));
});

tunnels('an abrupt end of one websocket leaves the others of the connection alone', async ({ page }) => {
  const [end, came] = await page.evaluate(async () => {
    const [cut, stays] = await Promise.all([Tunnel.open(), Tunnel.open()]);
    cut.socket.send('cut');
    return [await cut.closed, await stays.ask('still here')];
  });
  assert.deepEqual(end, [1006, '', false]);
  assert.equal(came, 'still here');
  assert.deepEqual(await until(page, 1), [{ code: 1006, reason: '' }]);
});

scenario('the end of the connection ends all its websockets, and the page can open others', options, async (line) => {
  const { page, gateway } = line;
  await start(line);
  await page.evaluate(async (many) => {
    window.all = await Promise.all(Array.from({ length: many }, () => Tunnel.open()));
  }, MANY);
  gateway.relay.cut();
  const ends = await page.evaluate(() => Promise.all(window.all.map((tunnel) => tunnel.closed)));
  assert.deepEqual(ends, Array.from({ length: MANY }, () => [1006, '', false]));
  const heard = await until(page, MANY);
  assert.deepEqual(heard, Array.from({ length: MANY }, () => ({ code: 1006, reason: '' })));
});

/** How websockets ended, as the service saw it, once it has seen as many. */
function until(page, count) {
  return page.evaluate(async (wanted) => {
    const watcher = await Tunnel.open();
    for (;;) {
      const ended = JSON.parse(await watcher.ask('ended'));
      if (ended.length >= wanted) return ended;
    }
  }, count);
}

function sorted(list) {
  return list.map((one) => JSON.stringify(one)).sort();
}
