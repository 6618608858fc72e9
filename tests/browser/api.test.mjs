// The description of the admin API: a document of OpenAPI 3.1 as others read it, and the API answers as it says.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { PATIENCE, withGateway } from './harness.mjs';
import { fails } from './services.mjs';

const require = createRequire(import.meta.url);
const { Validator } = await import(require.resolve('@seriousme/openapi-schema-validator'));
const Ajv = require('ajv/dist/2020.js').default;
const addFormats = require('ajv-formats').default;

// Who may watch at a time.
const WATCHERS = 8;
const [ALL, ONE] = ['/api/sessions', '/api/sessions/{id}'];

/** What the gateway says of its API. */
async function described(gateway) {
  return (await fetch(`${gateway.admin}/openapi.json`)).json();
}

/** Asks, and checks the answer against what the description says of it. */
function asker(gateway, description) {
  const ajv = new Ajv({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addSchema(description, 'api');
  const escaped = (name) => encodeURIComponent(name.replaceAll('~', '~0').replaceAll('/', '~1'));
  const pointer = (...names) => names.map(escaped).join('/');
  const asked = new Set();
  const ask = async (method, template, path = template, headers = {}) => {
    const operation = description.paths[template][method];
    const answer = await fetch(gateway.admin + path, { method: method.toUpperCase(), headers });
    const told = operation.responses[answer.status];
    assert.ok(told, `${method} ${path} answered ${answer.status}, which is not described`);
    const [kind] = answer.headers.get('content-type').split(';');
    const content = told.content[kind];
    assert.ok(content, `${method} ${path} answered ${kind}, which is not described`);
    asked.add(operation.operationId);
    if (kind === 'text/event-stream') {
      await answer.body.cancel();
      return undefined;
    }
    const document = await answer.json();
    const schema = pointer('paths', template, method, 'responses', String(answer.status), 'content', kind, 'schema');
    const isValid = ajv.validate({ $ref: `api#/${schema}` }, document);
    assert.ok(isValid, `${method} ${path}: ${ajv.errorsText()}\n${JSON.stringify(document, null, 2)}`);
    // What is told and not described would be missed by whoever reads the description.
    const name = content.schema.$ref.split('/').at(-1);
    assert.deepEqual(Object.keys(document).filter((key) => !(key in description.components.schemas[name].properties)),
      [], `${name} has more than is described`);
    return document;
  };
  return { ask, asked };
}

withGateway('the API is described, and answers as described', { settings: fails }, async ({ gateway }) => {
  const description = await described(gateway);
  assert.match(description.openapi, /^3\.1\./);
  const { valid, errors } = await new Validator().validate(structuredClone(description));
  assert.ok(valid, JSON.stringify(errors, null, 2));

  const { ask, asked } = asker(gateway, description);
  const id = randomUUID();
  const of = (call = '', which = id) => [`${ONE}${call}`, `${ALL}/${which}${call}`];
  assert.equal((await ask('get', ...of())).state, 'absent');
  await ask('get', ...of('/explain'));
  await ask('get', ...of('', 'no-id'));
  await ask('get', ALL, `${ALL}?limit=0`);
  await ask('post', ...of('/start'));
  let session;
  do session = await ask('get', ...of()); while (!session.services.some((service) => service.code));
  const explained = await ask('get', ...of('/explain'));
  assert.ok(explained.steps.some((step) => step.code === 'service_exited'), JSON.stringify(explained));
  await ask('post', ...of('/keep'));
  assert.equal((await ask('get', ALL, `${ALL}?limit=1`)).sessions.length, 1);
  assert.deepEqual((await ask('get', ALL, `${ALL}?unused=true`)).sessions, []);
  await ask('get', '/api/events');
  await ask('post', ...of('/stop'));
  assert.deepEqual(await ask('delete', ...of()), { id, deleted: true });

  const calls = Object.values(description.paths).flatMap((path) => Object.values(path));
  assert.deepEqual([...asked].sort(), calls.map((call) => call.operationId).sort());
});

/** Each call of the description, of a session with this id. */
function* calls({ paths }, id) {
  for (const [template, path] of Object.entries(paths)) {
    for (const method of Object.keys(path)) yield [method, template, template.replace('{id}', id)];
  }
}

const refused = (problem, status, code) => assert.deepEqual([problem?.status, problem?.code], [status, code]);

withGateway('who has not the token is refused by each call, as described', {
  settings: async (folder) => {
    await writeFile(join(folder, 'token'), 'a-token-of-operators');
    return [`admin.token_file=${folder}/token`];
  },
}, async ({ gateway }) => {
  const description = await described(gateway);
  const { ask } = asker(gateway, description);
  for (const call of calls(description, randomUUID())) {
    refused(await ask(...call), 401, 'unauthorized');
    refused(await ask(...call, { authorization: 'Bearer something-else-entirely' }), 401, 'unauthorized');
  }
  const { sessions } = await ask('get', ALL, ALL, { authorization: 'Bearer a-token-of-operators' });
  assert.deepEqual(sessions, [], 'nothing was started');
});

withGateway('a page of another site is refused by each call that changes something, as described', {}, async (
  { gateway },
) => {
  const description = await described(gateway);
  const { ask } = asker(gateway, description);
  const id = randomUUID();
  for (const [method, ...call] of calls(description, id)) {
    if (method === 'get') continue;
    refused(await ask(method, ...call, { 'sec-fetch-site': 'cross-site' }), 403, 'cross_site');
    refused(await ask(method, ...call, { origin: 'https://elsewhere.example' }), 403, 'cross_site');
  }
  assert.equal((await ask('get', ONE, `${ALL}/${id}`)).state, 'absent');
});

withGateway('what cannot be kept, or watched by so many, is refused as described', {
  settings: ['idle.max_age=1h', 'idle.countdown=1h'],
}, async ({ gateway }) => {
  const { ask } = asker(gateway, await described(gateway));
  const path = `${ALL}/${randomUUID()}`;
  await ask('post', `${ONE}/start`, `${path}/start`);
  let kept;
  const begun = performance.now();
  do {
    assert.ok(performance.now() - begun < PATIENCE, 'its stop is announced');
    kept = await ask('post', `${ONE}/keep`, `${path}/keep`);
  } while (!kept.status);
  refused(kept, 409, 'max_age_reached');

  const watchers = await Promise.all(Array.from({ length: WATCHERS }, () => fetch(`${gateway.admin}/api/events`)));
  refused(await ask('get', '/api/events'), 503, 'too_many_watchers');
  await Promise.all(watchers.map(({ body }) => body.cancel()));
});
