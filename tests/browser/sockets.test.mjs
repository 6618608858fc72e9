// Websockets of another implementation (npm `ws`) at both ends of the gateway. No browser: it would hide the frames.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';

import { withGateway } from './harness.mjs';
import { echo } from './services.mjs';
import { NAME, pem } from './tls.mjs';

// By `require`, which alone looks where NODE_PATH says.
const WebSocket = createRequire(import.meta.url)('ws');

const LARGEST = 64 << 20;

/** A test of the echo, over plain TCP and over TLS. `open` gives an open websocket of its session. */
function sockets(name, play) {
  for (const isEncrypted of [false, true]) {
    withGateway(isEncrypted ? `${name}, over TLS` : name, { settings: echo, isEncrypted }, ({ gateway, end }) => {
      const open = async (options = { perMessageDeflate: false }) => {
        const url = gateway.at('vscode/').replace(/^http/, 'ws');
        const trust = isEncrypted && { ca: pem, servername: NAME, lookup };
        const socket = new WebSocket(url, { maxPayload: 2 * LARGEST, ...trust, ...options });
        await once(socket, 'open');
        assert.equal(socket._socket.encrypted === true, isEncrypted);
        return socket;
      };
      return play({ open, end });
    });
  }
}

/** Finds the public name on this machine. */
function lookup(name, { all }, found) {
  assert.equal(name, NAME);
  if (all) found(null, [{ address: '127.0.0.1', family: 4 }]);
  else found(null, '127.0.0.1', 4);
}

async function echoed(socket, message) {
  const [bytes, isBinary] = await next(socket, () => socket.send(message));
  assert.equal(isBinary, typeof message !== 'string');
  assert.ok(Buffer.from(message).equals(bytes), `${message.length} bytes came back otherwise`);
}

/** The message that comes after something was done. */
async function next(socket, act) {
  const message = once(socket, 'message');
  act();
  return message;
}

/** How a websocket ends. */
async function closed(socket) {
  const [code, reason] = await once(socket, 'close');
  return [code, reason.toString()];
}

/** Bytes in an order that shows any shift. */
const PATTERN = Buffer.from(Uint8Array.from({ length: 65_521 }, (_, n) => n * n));

sockets('messages from 1 B to 64 MiB come back as they were', async ({ open }) => {
  const socket = await open();
  for (let size = 1; size <= LARGEST; size *= 4) {
    await echoed(socket, Buffer.alloc(size, PATTERN));
  }
  await echoed(socket, 'a text, ünïcode and all');
  await echoed(socket, Buffer.alloc(0));
});

sockets('fragments make one message, with pings between them', async ({ open }) => {
  const socket = await open();
  const parts = [1, 125, 126, 65_535, 65_536, 300_000].map((size, n) => Buffer.alloc(size, n));
  const pongs = [];
  socket.on('pong', (data) => pongs.push(data.toString()));
  const [whole] = await next(socket, () => {
    parts.forEach((part, n) => {
      socket.send(part, { fin: n === parts.length - 1 });
      socket.ping(`after ${n}`);
    });
  });
  assert.ok(Buffer.concat(parts).equals(whole));
  await echoed(socket, 'behind the last ping');
  assert.deepEqual(pongs, parts.map((_, n) => `after ${n}`));
});

sockets('permessage-deflate is between the two ends alone', async ({ open }) => {
  const socket = await open({ perMessageDeflate: { threshold: 0 } });
  assert.match(socket.extensions, /permessage-deflate/);
  for (let size = 1; size <= 1 << 20; size *= 8) await echoed(socket, Buffer.alloc(size, 'again and again'));
  await echoed(socket, 'a text');
  const plain = await open();
  assert.equal(plain.extensions, '');
  await echoed(plain, 'a text');
});

sockets('close codes and reasons pass both ways', async ({ open }) => {
  const watcher = await open();
  for (const [code, reason] of [[1000, ''], [1001, 'page left'], [4000, 'own'], [4999, 'ä'.repeat(61)]]) {
    const byService = await open();
    const end = closed(byService);
    byService.send(`close ${code} ${reason}`);
    assert.deepEqual(await end, [code, reason]);

    const byClient = await open();
    const answer = closed(byClient);
    byClient.close(code, reason);
    assert.deepEqual(await answer, [code, reason]);
    const isIt = (one) => one.code === code && one.reason === reason;
    await until(async () => (await ended(watcher)).filter(isIt).length === 2);
  }
});

sockets('abrupt ends are heard on the other side', async ({ open }) => {
  const watcher = await open();
  const cut = await open();
  const end = closed(cut);
  cut.send('cut');
  assert.deepEqual(await end, [1006, '']);
  const left = await open();
  left.terminate();
  await until(async () => (await ended(watcher)).filter(({ code }) => code === 1006).length === 2);
});

sockets('a gateway that ends says so with 1012', async ({ open, end }) => {
  const all = await Promise.all(Array.from({ length: 20 }, () => open()));
  const ends = all.map(closed);
  await end();
  assert.deepEqual(await Promise.all(ends), all.map(() => [1012, 'gateway restarts']));
});

/** How websockets ended, as the service saw it. */
async function ended(watcher) {
  const [list] = await next(watcher, () => watcher.send('ended'));
  return JSON.parse(list.toString());
}

async function until(isSo) {
  while (!await isSo());
}
