// Server-sent events: each arrives when it is sent, over both versions of HTTP, in a browser and in a program. None can
// be held back to be sent with others: the service sends the next only when the last is reported to have arrived.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import https from 'node:https';
import { connect } from 'node:tls';

import { arrived, scenario, withGateway } from './harness.mjs';
import { events } from './services.mjs';
import { NAME, pem } from './tls.mjs';

const COUNT = 20;
const AT_ONCE = 20_000;
const tokens = Array.from({ length: COUNT }, (_, n) => ({ id: String(n), data: `token ${n}` }));

/** Follows streams in the page, as many at a time as there are names, and gives what came; runs inside it. */
function follow({ names, count }) {
  return Promise.all(names.map((of) => new Promise((resolve, reject) => {
    const seen = [];
    const source = new EventSource(`../chat/one-by-one?of=${of}&count=${count}`);
    // It would connect again, and hide that the stream broke.
    source.onerror = () => reject(new Error(`${of} broke off after ${seen.length}`));
    source.onmessage = async ({ lastEventId, data }) => {
      seen.push({ id: lastEventId, data });
      if (seen.length === count) source.close();
      const { status } = await fetch(`../chat/arrived?of=${of}&event=${lastEventId}`, { method: 'POST' });
      if (status !== 204) reject(new Error(`${of}: the report of ${lastEventId} got ${status}`));
      if (seen.length === count) resolve(seen);
    };
  })));
}

/** A page follows as many streams. Over HTTP/1.1 a browser makes six connections to a host, and needs one to report. */
function inBrowser(version, streams, options) {
  scenario(`events reach a page one by one over ${version}`, { settings: events, ...options }, async (line) => {
    const { page, context, open } = line;
    await open('preview/');
    await arrived(page);
    const devtools = await context.newCDPSession(page);
    await devtools.send('Network.enable');
    const versions = [];
    devtools.on('Network.responseReceived', ({ response }) => {
      if (response.url.includes('/one-by-one')) versions.push(response.protocol);
    });
    const names = Array.from({ length: streams }, (_, n) => `stream-${n}`);
    const seen = await page.evaluate(follow, { names, count: COUNT });
    assert.deepEqual(seen, names.map(() => tokens));
    assert.deepEqual(versions, names.map(() => version));
  });
}

inBrowser('http/1.1', 4, {});
inBrowser('h2', 10, { isEncrypted: true });

/** A client of either version: gives status and body of an answer. `end` ends it. */
function client(version, gateway) {
  const address = { host: '127.0.0.1', port: gateway.port, servername: NAME, ca: pem };
  const path = (below) => new URL(gateway.at(below)).pathname + new URL(gateway.at(below)).search;
  if (version === 'h2') {
    const session = http2.connect(gateway.origin, {
      createConnection: () => connect({ ...address, ALPNProtocols: ['h2'] }),
    });
    const ask = async (method, below) => {
      const stream = session.request({ ':method': method, ':path': path(below) }).end();
      const [headers] = await once(stream, 'response');
      return { status: headers[':status'], body: stream };
    };
    return { ask, end: () => session.close(), session };
  }
  const agent = new https.Agent({ ...address, keepAlive: true });
  const ask = async (method, below) => {
    const headers = { host: new URL(gateway.origin).host };
    const request = https.request({ ...address, agent, method, path: path(below), headers }).end();
    const [answer] = await once(request, 'response');
    return { status: answer.statusCode, body: answer };
  };
  return { ask, end: () => agent.destroy() };
}

/** The events of a body, one at a time. What does not end like an event counts as one too. */
async function* parsed(body) {
  let rest = '';
  for await (const chunk of body.setEncoding('utf8')) {
    const parts = (rest + chunk).split('\n\n');
    rest = parts.pop();
    yield* parts;
  }
  if (rest) yield rest;
}

async function text(body) {
  let whole = '';
  for await (const chunk of body.setEncoding('utf8')) whole += chunk;
  return whole;
}

const written = (n) => `id: ${n}\ndata: token ${n}`;

withGateway('events reach a program one by one over both versions', { settings: events, isEncrypted: true }, async (
  { gateway },
) => {
  await Promise.all(['http/1.1', 'h2'].map(async (version) => {
    const { ask, end } = client(version, gateway);
    const { status, body } = await ask('GET', `chat/one-by-one?of=${version}&count=${COUNT}`);
    assert.equal(status, 200);
    let count = 0;
    for await (const event of parsed(body)) {
      assert.equal(event, written(count));
      const report = await ask('POST', `chat/arrived?of=${version}&event=${count}`);
      assert.equal(report.status, 204);
      report.body.resume();
      count += 1;
    }
    assert.equal(count, COUNT);
    end();
  }));
});

withGateway('many small events at once leave a connection of HTTP/2 alive', {
  settings: events, isEncrypted: true,
}, async ({ gateway }) => {
  const { ask, end, session } = client('h2', gateway);
  const faults = [];
  session.on('goaway', (code) => faults.push(`GOAWAY ${code}`));
  const { status, body } = await ask('GET', `chat/at-once?count=${AT_ONCE}`);
  assert.equal(status, 200);
  let count = 0;
  for await (const event of parsed(body)) {
    assert.equal(event, written(count));
    count += 1;
  }
  assert.equal(count, AT_ONCE);
  // On the same connection.
  assert.equal(await text((await ask('GET', 'chat/streamed')).body), '1');
  assert.deepEqual(faults, []);
  end();
});
