// The session's own page: where its services stand, and when it will be stopped.
const show = ({ state, stop, because = 'idle', services }) => {
  if (state !== page.state) go();
  all('countdown').forEach((one) => { one.hidden = !stop; });
  all('why').forEach((one) => { one.hidden = one.dataset.why !== because; });
  all('of').forEach((badge, at) => {
    const one = services[at];
    // Why it failed is in the page.
    if (badge.textContent !== one.state && [badge.textContent, one.state].includes('failed')) go();
    badge.textContent = one.state;
    badge.className = `state ${one.state}`;
    badge.hidden = one.state === state;
  });
  pass(0);
};

const pass = (seconds) => {
  if (told.stop) write('left', Math.max(0, Math.floor(told.left - seconds)));
};
