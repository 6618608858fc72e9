// Operator's commands for the preview that do what a scenario waits for, when it says so.

import { program } from './harness.mjs';

/** The preview's service, which does not start until the scenario has made the file `go`. */
export const waits = (folder) => [
  `local.services.preview.command={sh,-c,until test -e ${folder}/go; do sleep 0.05; done; `
    + `exec ${program} demo preview}`,
];

/** The preview's service, which fails until the scenario has made the file `mended`. */
export const fails = (folder) => [
  `local.services.preview.command={sh,-c,test -e ${folder}/mended && exec ${program} demo preview; `
    + 'echo no such thing >&2; exit 3}',
];
