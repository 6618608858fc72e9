// A session inside a frame of another site: of one that may, it starts, waits and works; of another it does not.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before } from 'node:test';

import { scenario } from './harness.mjs';
import { waits } from './services.mjs';

// One site is known to the gateway by its name, the other is not; they are one server.
let site;
before(async () => {
  site = createServer((request, response) => {
    const { searchParams } = new URL(request.url, 'http://site');
    response.setHeader('content-type', 'text/html');
    response.end(`<!doctype html><title>A site</title><iframe src="${searchParams.get('frame') ?? ''}"></iframe>`);
  }).listen(0, '127.0.0.1');
  await once(site, 'listening');
});
after(() => site.close());

const at = (name) => `http://${name}.localhost:${site.address().port}`;
const page = (name, gateway, path) => `${at(name)}/?frame=${encodeURIComponent(gateway.at(path))}`;
const settings = (folder) => [...waits(folder), `embedders={${at('known')}}`];
const outside = (gateway) => ['known', 'other'].flatMap((name) => [
  page(name, gateway, 'preview/?a=1'), page(name, gateway, ''), `${at(name)}/favicon.ico`, `${at(name)}/`,
]);

scenario('a session in a frame of a site that may starts, waits and works', {
  settings,
  outside,
  says: [/403 \(Forbidden\) \(\S+\/-\/stop\)$/],
}, async (line) => {
  const { gateway, folder } = line;
  await line.page.goto(page('known', gateway, 'preview/?a=1'));
  const frame = line.page.frameLocator('iframe');
  await frame.locator('body[data-state="starting"] li.now').waitFor();
  // Where it stands can be read from outside, and nothing else can be done.
  const asked = await line.page.evaluate(async ([url]) => {
    const status = await (await fetch(`${url}-/status`)).json();
    const event = await new Promise((resolve, reject) => {
      const events = new EventSource(`${url}-/events`);
      events.onmessage = ({ data }) => resolve(JSON.parse(data));
      events.onerror = reject;
    });
    const stop = await fetch(`${url}-/stop`, { method: 'POST', mode: 'no-cors' }).then(({ type }) => type);
    return [status.state, event.state, stop];
  }, [gateway.url]);
  const [state, event, stop] = asked;
  assert.match(`${state} ${event}`, /^(starting|running) (starting|running)$/);
  assert.equal(stop, 'opaque');
  assert.equal(await frame.locator('body').getAttribute('data-state'), 'starting', 'it was not stopped');
  await writeFile(join(folder, 'go'), '');
  await frame.locator('body:not([data-state]) h1').waitFor();
  assert.equal(line.page.frames()[1].url(), gateway.at('preview/?a=1'));
  // Its own page too, with its buttons.
  await line.page.goto(page('known', gateway, ''));
  await frame.locator('form[action$="/-/stop"] button').click();
  await frame.locator('body[data-state="stopped"]').waitFor();
});

scenario('a session in a frame of another site does not start', {
  settings,
  outside,
  forbids: /frame-ancestors/,
  says: [/403 \S* ?\(chrome-error:/, /\(\S+\/-\/status\)$/, /^Access to fetch at '\S+\/-\/status' /],
}, async (line) => {
  const { gateway, context } = line;
  const status = async () => (await (await context.request.get(gateway.at('-/status'))).json()).state;
  for (const path of ['preview/?a=1', '']) {
    const answered = line.page.waitForResponse(gateway.at(path));
    await line.page.goto(page('other', gateway, path));
    const answer = await answered;
    assert.equal(answer.status(), 403, path);
    assert.match(answer.headers()['content-security-policy'], new RegExp(`frame-ancestors ${at('known')};`));
    assert.equal(await status(), 'absent');
  }
  const get = (url) => fetch(url).then(() => 'read', () => 'refused');
  const read = await line.page.evaluate(get, gateway.at('-/status'));
  assert.equal(read, 'refused');
});
