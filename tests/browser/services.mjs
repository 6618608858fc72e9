// Operator's commands: services that do what a scenario waits for, when it says so, and services of the tests' own.

import { cpSync, symlinkSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { program } from './harness.mjs';

/** The path of a file of this folder. */
const here = (file) => fileURLToPath(new URL(file, import.meta.url));

/** A program of this folder as a service, with arguments. */
function script(service, file, ...words) {
  return [
    `local.services.${service}.command={${[process.execPath, here(file), ...words]}}`,
    `local.services.${service}.env.NODE_PATH=${process.env.NODE_PATH}`,
  ];
}

/** The service `vscode`, which sends every websocket message back. */
export const echo = script('vscode', 'echo.mjs');

/** The service `vscode`, which is at this port and outlives the gateway, as a session's pod does. */
export const outside = (port) => script('vscode', 'forward.mjs', port);

/** The service `chat`, which sends events. */
export const events = script('chat', 'events.mjs');

/** Vite as the preview, with a copy of the small app in `vite`: the folder `app` of the scenario. */
export const vite = (folder) => {
  const modules = process.env.NODE_PATH;
  cpSync(here('vite'), join(folder, 'app'), { recursive: true });
  symlinkSync(modules, join(folder, 'app', 'node_modules'));
  return [
    `local.services.preview.command={sh,-c,exec ${process.execPath} ${modules}/vite/bin/vite.js --configLoader native `
      + '--host $HOST --port $PORT --strictPort --base $BASE_PATH/}',
    `local.services.preview.cwd=${folder}/app`,
  ];
};

/** The preview's service, which does not start until the scenario has made the file `go`. */
export const waits = (folder) => [
  `local.services.preview.command={sh,-c,until test -e ${folder}/go; do sleep 0.05; done; `
    + `exec ${program} demo preview}`,
];

/** All services, which do not start until then. */
export const waitAll = (folder) => ['preview', 'chat', 'vscode'].map((service) => (
  `local.services.${service}.command={sh,-c,until test -e ${folder}/go; do sleep 0.05; done; `
    + `exec ${program} demo ${service}}`
));

/** Makes the file `go` that services wait for. */
export const go = ({ folder }) => writeFile(join(folder, 'go'), '');

/** The preview's service, which fails until the scenario has made the file `mended`. */
export const fails = (folder) => [
  `local.services.preview.command={sh,-c,test -e ${folder}/mended && exec ${program} demo preview; `
    + 'echo no such thing >&2; exit 3}',
];
