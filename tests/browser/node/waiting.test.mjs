// A visitor of a session that runs on a real node. The kubeconfig of its cluster is given in CLUSTER_KUBECONFIG.

import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { arrived, NO_ICON, scenario, state } from '../harness.mjs';

/** Sessions run in the cluster whose kubeconfig is in the home folder, as with kubectl. */
function settings(folder) {
  mkdirSync(join(folder, '.kube'));
  copyFileSync(process.env.CLUSTER_KUBECONFIG, join(folder, '.kube', 'config'));
  return ['spawner=kubernetes', 'auth.none_is_fine=true', 'image.repository=docker.io/library/dev-session',
    'image.tag=test', 'image.pullPolicy=Never', 'env.START_DELAY=1s'];
}

scenario('the waiting page leads to the answer of the pod, query and all', {
  settings,
  // Of the pod's answer, which is no page.
  says: [NO_ICON],
}, async (line) => {
  const { page, gateway, open } = line;
  const answer = await open('preview/a?b=c');
  assert.equal(answer.status(), 503);
  await state(page, 'starting', 'absent');
  await arrived(page);
  assert.equal(page.url(), gateway.at('preview/a?b=c'));
  const said = JSON.parse(await page.locator('body').innerText());
  assert.deepEqual([said.session, said.service], [gateway.id, 'preview']);
});
