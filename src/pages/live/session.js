// The session's own page: where its services stand, and when it will be stopped.
let start;

const show = ({ state, stop, because = 'idle', services }) => {
  if (state !== page.state) go();
  if (stop && !all('countdown').length) go();
  if (page.starts) {
    start = services.find(({ stage }) => stage);
    course(start ?? { stages: [] });
    all('goes').forEach((one) => { one.hidden = !start; });
  }
  all('countdown').forEach((one) => { one.hidden = !stop; });
  all('why').forEach((one) => { one.hidden = one.dataset.why !== because; });
  all('of').forEach((card, at) => {
    const one = services[at];
    const badge = card.querySelector('.state') ?? card.appendChild(document.createElement('span'));
    const was = badge.textContent || page.state;
    // Why it failed is in the page.
    if (was !== one.state && [was, one.state].includes('failed')) go();
    badge.textContent = one.state;
    badge.className = `state ${one.state}`;
    badge.hidden = one.state === state;
  });
  pass(0);
};

const pass = (seconds) => {
  if (start) write('elapsed', time(start.seconds + seconds));
  const left = Math.max(0, Math.floor(told.left - seconds));
  if (told.stop) write('left', left < 120 ? `${left} s` : `${Math.floor(left / 60)} min`);
};
