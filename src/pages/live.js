// Keeps a page up to date: by events, and by asking where these do not come. Without it the page refreshes itself.
// What comes is for `show`, which each kind of page has for itself (folder live).
const page = document.body.dataset;
const api = `/${page.session}/-/`;
let events, told, gone, leaves = 0, tries = 0, patience = 3, heard = Date.now(), since = heard;

const all = (part) => document.querySelectorAll(`[data-${part}]`);
const write = (part, text) => all(part).forEach((one) => { one.textContent = text; });
const time = (seconds) => (seconds < 10 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds)} s`);
const quiet = () => events?.close();

// To the same address, once. One that leads back here is tried no more often than by a refresh.
const go = () => {
  if (gone) return;
  gone = true;
  quiet();
  const { href } = location;
  const stays = href.includes('#');
  const load = () => {
    if (Date.now() < leaves) gone = false;
    else if (stays) location.reload();
    else location.replace(href);
  };
  setTimeout(load, stays || document.referrer === href ? 1000 : 0);
};

const hear = (status) => {
  if (gone || !status || Date.now() < leaves) return;
  [told, since] = [status, Date.now()];
  show(status);
};

const ask = () => fetch(`${api}status`).then((answer) => answer.ok && answer.json()).then(hear).catch(() => {});

const listen = () => {
  quiet();
  events = new EventSource(`${api}events`);
  events.onmessage = ({ data }) => {
    [heard, patience, tries] = [Date.now(), 30, 0];
    hear(JSON.parse(data));
  };
};

// Once a second. A clock that has jumped is a computer that slept.
const tick = () => {
  const now = Date.now();
  if (gone) return;
  if (told) pass((now - since) / 1000);
  if (now - heard < patience * 1000) return;
  [heard, patience] = [now, document.hidden ? 10 : 3];
  ask();
  if (!document.hidden && tries++ % 5 === 0) listen();
};

// A browser has few connections to a host: a page that nobody sees leaves its own to others, and asks now and then.
const wake = () => {
  [heard, patience, tries] = [Date.now(), 3, 0];
  if (document.hidden) quiet();
  else listen();
};
addEventListener('visibilitychange', wake);
// Whoever opens a link or sends a form goes there, and not where the page would go by itself. It may be a download.
addEventListener('beforeunload', () => {
  if (!gone) [leaves, heard, patience] = [Date.now() + 10000, Date.now(), 10];
});
addEventListener('pagehide', quiet);
addEventListener('pageshow', ({ persisted }) => {
  if (persisted) gone = false;
  wake();
});
setInterval(tick, 1000);
