// Looks at a page, light and dark, on a telephone and on a desk: nothing is cut off, everything has a name and can be
// read, and axe finds nothing serious. With SCREENSHOTS=FOLDER a picture of each is kept, for people to look at.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { picture } from './harness.mjs';

// By `require`, which alone looks where NODE_PATH says.
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const WIDTHS = [360, 1280];
const SCHEMES = ['light', 'dark'];

/** Looks at the page as it is now, in every size and scheme. */
export async function look(page, name) {
  const found = [];
  for (const colorScheme of SCHEMES) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 800 });
      const seen = await between(page, async () => {
        await picture(page, `${name} ${colorScheme} ${width}`);
        return [...await page.evaluate(faults), ...await serious(page)];
      });
      found.push(...seen.map((fault) => `${name}, ${colorScheme}, ${width}: ${fault}`));
    }
  }
  assert.deepEqual(found, []);
}

/** Does the work between two refreshes of the page, which would take the page away from it. */
async function between(page, work) {
  for (;;) {
    await page.waitForLoadState('load');
    try {
      return await work();
    } catch (error) {
      if (!/context was destroyed|navigat/i.test(error.message)) throw error;
    }
  }
}

/** What axe finds. It is put into the page past its content security policy, as by the browser's own tools. */
async function serious(page) {
  // The page may be another than a moment ago.
  if (!await page.evaluate(() => 'axe' in globalThis)) await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ['violations'] }));
  const grave = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  return grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 80)).join()}`);
}

/** What is wrong with the page; runs inside it. */
function faults() {
  const found = [];
  const root = document.documentElement;
  const shown = (element) => element.checkVisibility() && element.getClientRects().length > 0;
  const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);

  if (root.scrollWidth > root.clientWidth) found.push(`scrolls sideways: ${root.scrollWidth} > ${root.clientWidth}`);
  if (!root.lang) found.push('no language');
  if (!document.title) found.push('no title');
  if (all('h1').length !== 1) found.push(`${all('h1').length} h1`);

  for (const control of all('a[href], button, input, select, textarea')) {
    const labels = [...(control.labels ?? [])].map((label) => label.textContent);
    const said = [control.ariaLabel, control.title, control.textContent, ...labels];
    const labelled = control.getAttribute('aria-labelledby');
    if (!labelled && !said.some((words) => words?.trim())) found.push(`no name: ${control.outerHTML.slice(0, 80)}`);
  }
  for (const image of all('img:not([alt])')) found.push(`no alternative text: ${image.src}`);

  // WCAG 2.2, 1.4.3: text has 4.5 times the light of its ground, or the other way round; large text three times.
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [red, green, blue] = [r, g, b].map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  // What lies below a page without a colour depends on the scheme, and only an element knows it.
  const probe = document.body.appendChild(document.createElement('i'));
  probe.style.color = 'Canvas';
  const blank = rgba(getComputedStyle(probe).color);
  probe.remove();
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return blank;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const words = texts.currentNode.textContent.trim();
    if (!words || !shown(element) || element.closest('script, style, :disabled')) continue;
    const style = getComputedStyle(element);
    const [low, high] = [light(rgba(style.color)), light(ground(element))].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    const isLarge = parseFloat(style.fontSize) >= 24;
    if (contrast < (isLarge ? 3 : 4.5)) found.push(`hard to read (${contrast.toFixed(1)}): ${words.slice(0, 40)}`);
  }
  return found;
}
