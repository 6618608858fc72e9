// The description of the admin API: a document of OpenAPI 3.1 as others read it, and the API answers as it says.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';

import { withGateway } from './harness.mjs';
import { fails } from './services.mjs';

const require = createRequire(import.meta.url);
const { Validator } = await import(require.resolve('@seriousme/openapi-schema-validator'));
const Ajv = require('ajv/dist/2020.js').default;
const addFormats = require('ajv-formats').default;

/** Asks, and checks the answer against what the description says of it. */
function asker(gateway, description) {
  const ajv = new Ajv({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addSchema(description, 'api');
  const escaped = (name) => encodeURIComponent(name.replaceAll('~', '~0').replaceAll('/', '~1'));
  const pointer = (...names) => names.map(escaped).join('/');
  const asked = new Set();
  const ask = async (method, template, path = template) => {
    const operation = description.paths[template][method];
    const answer = await fetch(gateway.admin + path, { method: method.toUpperCase() });
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
  const description = await (await fetch(`${gateway.admin}/openapi.json`)).json();
  assert.match(description.openapi, /^3\.1\./);
  const { valid, errors } = await new Validator().validate(structuredClone(description));
  assert.ok(valid, JSON.stringify(errors, null, 2));

  const { ask, asked } = asker(gateway, description);
  const [all, one] = ['/api/sessions', '/api/sessions/{id}'];
  const id = randomUUID();
  const of = (call = '', which = id) => [`${one}${call}`, `${all}/${which}${call}`];
  assert.equal((await ask('get', ...of())).state, 'absent');
  await ask('get', ...of('/explain'));
  await ask('get', ...of('', 'no-id'));
  await ask('get', all, `${all}?limit=0`);
  await ask('post', ...of('/start'));
  let session;
  do session = await ask('get', ...of()); while (!session.services.some((service) => service.code));
  const explained = await ask('get', ...of('/explain'));
  assert.ok(explained.steps.some((step) => step.code === 'service_exited'), JSON.stringify(explained));
  await ask('post', ...of('/keep'));
  assert.equal((await ask('get', all, `${all}?limit=1`)).sessions.length, 1);
  assert.deepEqual((await ask('get', all, `${all}?unused=true`)).sessions, []);
  await ask('get', '/api/events');
  await ask('post', ...of('/stop'));
  assert.deepEqual(await ask('delete', ...of()), { id, deleted: true });

  const calls = Object.values(description.paths).flatMap((path) => Object.values(path));
  assert.deepEqual([...asked].sort(), calls.map((call) => call.operationId).sort());
});
