// The pages as they are with their script: they follow the session by events, by asking where those do not come, and
// lead to what was asked for exactly once.

import assert from 'node:assert/strict';

import { arrived, scenario, state, status, whole } from './harness.mjs';
import { go, waitAll, waits } from './services.mjs';

/** How often an address was asked for; a fragment is no part of what is asked. */
const times = (line, path) => line.asked.filter((url) => whole(url) === line.gateway.at(path)).length;
// What the browser says of a page that finds nobody.
const lost = [/net::ERR_\w+ \(\S+\/-\/(events|status)\)$/];
/** Text that the page writes by itself, once it is as wanted. */
const shows = (page, part, wanted) => page.waitForFunction(
  ([part, wanted]) => new RegExp(wanted).test(document.querySelector(`[data-${part}]`)?.textContent ?? ''),
  [part, wanted],
);

for (const fragment of ['', '#part']) {
  scenario(`the waiting page leads once to what was asked for, query${fragment && ', fragment'} and all`, {
    settings: waits,
  }, async (line) => {
    const { page, gateway, open } = line;
    const answer = await open(`preview/?a=1&b=%20x${fragment}`);
    assert.equal(answer.status(), 503);
    await state(page, 'starting');
    await shows(page, 'now', 'Waiting for the service to answer');
    await shows(page, 'elapsed', '^[1-9]');
    const stages = await page.locator('li').evaluateAll((items) => items.map((item) => item.className));
    assert.deepEqual(stages, ['done', 'done', 'done', 'now']);
    assert.equal(await page.locator('li.now').getAttribute('aria-current'), 'step');
    const took = await page.locator('li.done small').allInnerTexts();
    assert.ok(took.length === 3 && took.every((time) => /^\d+\.\d s$/.test(time)), took);
    assert.equal(times(line, 'preview/?a=1&b=%20x'), 1, 'it does not refresh itself');
    const length = await page.evaluate(() => history.length);
    await go(line);
    await arrived(page);
    assert.equal(page.url(), gateway.at(`preview/?a=1&b=%20x${fragment}`));
    assert.equal(await page.evaluate(() => history.length), length, 'the waiting page is not left behind');
    assert.equal(times(line, 'preview/?a=1&b=%20x'), 2, 'once to wait and once to arrive');
    assert.deepEqual([times(line, '-/events'), times(line, '-/status')], [1, 0]);
  });
}

scenario('where events are kept back the waiting page asks', { settings: waits }, async (line) => {
  const { page, context, open } = line;
  // As a proxy does that waits for a whole answer.
  await context.route('**/-/events', () => {});
  await open('preview/');
  await state(page, 'starting');
  await go(line);
  await arrived(page);
  assert.equal(times(line, 'preview/'), 2);
  assert.ok(times(line, '-/status') > 0);
  await context.unrouteAll({ behavior: 'ignoreErrors' });
});

scenario('a waiting page outlives its gateway', { settings: waits, isRelayed: true, says: lost }, async (line) => {
  const { page, gateway, open } = line;
  await open('preview/');
  await shows(page, 'now', 'Waiting for the service to answer');
  // What comes meanwhile finds nobody, and must not take the page away.
  gateway.relay.lead(1);
  gateway.relay.cut();
  const lost = page.waitForEvent('requestfailed');
  await lost;
  await go(line);
  await gateway.restart();
  await arrived(page);
  assert.equal(page.url(), gateway.at('preview/'));
});

scenario('what somebody stops is not started by the page that waits for it', {
  settings: waits,
}, async (line) => {
  const { page, context, gateway, open } = line;
  await open('preview/');
  await shows(page, 'now', 'Waiting for the service to answer');
  await context.request.post(gateway.at('-/stop'));
  const start = page.getByRole('button', { name: 'Start the session' });
  await start.waitFor();
  assert.equal(await page.locator('h1:visible').innerText(), 'The session is not running');
  assert.equal((await status(line)).state, 'stopped');
  assert.equal(times(line, 'preview/'), 1);
  await go(line);
  await start.click();
  await arrived(page);
  assert.equal(page.url(), gateway.at('preview/'));
});

scenario('a port that is late is said to be, and opens when it is there', {
  settings: (folder) => [...waits(folder), 'spawn.hold=1s', 'spawn.timeout=1s'],
}, async (line) => {
  const { page, open } = line;
  await open('preview/');
  await state(page, 'failed');
  assert.match(await page.locator('main').innerText(), /nothing listens on port \d+ after 1s.*looks again by itself/s);
  await go(line);
  await arrived(page);
});

scenario('the session\'s page counts down in place, and keeps it by its button', {
  settings: ['idle.after=2s', 'idle.countdown=5s'],
}, async (line) => {
  const { page, open } = line;
  await open();
  await page.click('form[action$="/-/start"] button');
  await state(page, 'running');
  const keep = page.getByRole('button', { name: 'Keep it running' });
  const alive = () => page.evaluate(() => performance.timeOrigin);
  const loaded = await alive();
  await keep.waitFor();
  assert.equal(await page.getByRole('alert').innerText(), 'Nobody uses it');
  await keep.focus();
  await shows(page, 'left', '^[0-3] s$');
  assert.equal(await alive(), loaded, 'it was not loaded again');
  assert.ok(await keep.evaluate((button) => button === document.activeElement), 'the focus stays');
  const { stop } = await status(line);
  await page.keyboard.press('Enter');
  await state(page, 'running');
  assert.notEqual((await status(line)).stop, stop);
});

scenario('the session\'s page follows its start, and keeps how it went', {
  settings: waitAll,
}, async (line) => {
  const { page, open } = line;
  const stages = () => page.locator('li').evaluateAll((items) => items.map((item) => item.className));
  await open();
  assert.deepEqual(await stages(), []);
  await page.click('form[action$="/-/start"] button');
  await state(page, 'starting');
  await page.locator('li.now', { hasText: 'Waiting for the service to answer' }).waitFor();
  assert.deepEqual(await stages(), ['done', 'done', 'done', 'now']);
  await shows(page, 'elapsed', '^[1-9]');
  await go(line);
  await state(page, 'running');
  await page.waitForFunction(() => !document.querySelector('li:not(.done)'));
  await open();
  const main = await page.locator('main').innerText();
  assert.match(main, /Last start\n+Begun 20\S+ \S+ UTC; every service answered after \d+\.\d s\.\n/);
  assert.deepEqual(await stages(), ['done', 'done', 'done', 'done']);
});

scenario('the session\'s page shows in place that the last of its services has come', {
  settings: waits,
}, async (line) => {
  const { page, open } = line;
  await open();
  await page.click('form[action$="/-/start"] button');
  await state(page, 'running');
  await page.locator('li.now').waitFor();
  // A service that opens meanwhile changes nothing about the one that is waited for.
  await page.waitForFunction(() => document.querySelectorAll('.state.starting:not([hidden])').length === 1);
  const loaded = await page.evaluate(() => performance.timeOrigin);
  await go(line);
  await page.waitForFunction(() => !document.querySelector('li:not(.done)'));
  assert.equal(await page.locator('[data-goes]').isVisible(), false);
  assert.equal(await page.evaluate(() => performance.timeOrigin), loaded, 'it was not loaded again');
});

scenario('a page that has nothing to follow looks again after its time', {
  settings: ['spawn.limits.sessions=1'],
}, async (line) => {
  const { page, context, gateway, open } = line;
  const other = `${gateway.origin}/00000000-0000-4000-8000-000000000001/-`;
  await context.request.post(`${other}/start`);
  await context.clock.install();
  await open('preview/#part');
  await state(page, 'limited');
  const seconds = Number(await page.locator('body').getAttribute('data-again'));
  assert.ok(seconds > 5 && seconds <= 11, `${seconds} s`);
  // It may have been the waiting page first.
  const before = times(line, 'preview/');
  await page.clock.fastForward((seconds - 5) * 1000);
  assert.equal(times(line, 'preview/'), before);
  const again = page.waitForEvent('load');
  await page.clock.fastForward(6000);
  await again;
  assert.equal(times(line, 'preview/'), before + 1);
  assert.equal(page.url(), gateway.at('preview/#part'));
});

scenario('the session\'s page tells when it was last used', {}, async ({ page, open }) => {
  await open();
  assert.doesNotMatch(await page.locator('main').innerText(), /Last used/);
  const minute = (time) => new Date(time).toISOString().slice(0, 16).replace('T', ' ');
  const before = minute(Date.now());
  await open('preview/');
  await arrived(page);
  await open();
  const [, used] = (await page.locator('main').innerText()).match(/^Last used (\d{4}-\d\d-\d\d \d\d:\d\d) UTC$/m);
  assert.ok(before <= used && used <= minute(Date.now()), used);
});
