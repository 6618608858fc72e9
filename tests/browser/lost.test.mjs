// Pages that hear nothing any more: their computer slept, their connections were cut, or something on the way keeps
// events back. They find out by themselves where things stand.

import assert from 'node:assert/strict';

import { arrived, scenario, state, status } from './harness.mjs';
import { go, waits } from './services.mjs';

// What the browser says of a page that finds nobody.
const says = [/net::ERR_\w+ \(\S+\/-\/(events|status)\)$/];
const START = 'form[action$="/-/start"] button';

/** What operators see, by a connection of their own. */
async function operators({ gateway }, method = 'GET', call = '') {
  const answer = await fetch(`${gateway.admin}/api/sessions/${gateway.id}${call}`, { method });
  return answer.json();
}

/** Closes the lid: the page's clock stands still, and its connections lead nowhere without its knowing. */
async function sleep({ page, gateway }) {
  await page.clock.pauseAt(await page.evaluate(() => Date.now() + 1000));
  gateway.relay.lose();
}

/** Opens it on the next morning. */
async function wake({ page }) {
  await page.clock.fastForward('08:00:00');
  await page.clock.resume();
}

scenario('a waiting page whose computer slept leads to what was asked for', {
  settings: waits, isRelayed: true,
}, async (line) => {
  const { page, context, gateway, open } = line;
  await context.clock.install();
  await open('preview/?a=1#part');
  await page.getByText('Waiting for the service to answer').first().waitFor();
  await sleep(line);
  await go(line);
  while ((await operators(line)).services[0].state !== 'running');
  await state(page, 'starting');
  await wake(line);
  await arrived(page);
  assert.equal(page.url(), gateway.at('preview/?a=1#part'));
});

scenario('a session\'s page whose computer slept shows that it was stopped meanwhile', { isRelayed: true }, async (
  line,
) => {
  const { page, context, open } = line;
  await context.clock.install();
  await open();
  await page.click(START);
  await state(page, 'running');
  await sleep(line);
  assert.equal((await operators(line, 'POST', '/stop')).state, 'stopped');
  await state(page, 'running');
  await wake(line);
  await state(page, 'stopped');
  await page.getByRole('button', { name: 'Start the session' }).waitFor();
});

scenario('a session\'s page whose connections are cut shows where it stands when it finds the gateway again', {
  isRelayed: true, says,
}, async (line) => {
  const { page, gateway, open } = line;
  await open();
  await page.click(START);
  await state(page, 'running');
  gateway.relay.lead(1);
  const lost = page.waitForEvent('requestfailed');
  gateway.relay.cut();
  await lost;
  // Its processes end with it.
  await gateway.restart();
  await state(page, 'vanished');
});

scenario('where events are kept back a session\'s page asks', {}, async (line) => {
  const { page, context, asked, gateway, open } = line;
  // As a proxy does that waits for a whole answer.
  await context.route('**/-/events', () => {});
  await open();
  assert.equal((await status(line)).state, 'absent');
  await operators(line, 'POST', '/start');
  await state(page, 'running');
  assert.ok(asked.includes(gateway.at('-/status')));
  await context.unrouteAll({ behavior: 'ignoreErrors' });
});
