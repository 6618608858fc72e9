// A page that stands in for a service: goes there when it runs, and to the page that fits when it stands elsewhere.
let known, stopped;
const mine = () => told.services.find(({ name }) => name === page.service);

const show = () => {
  const { state, code } = mine();
  if (state === 'starting' && state === page.state) {
    known = true;
    course(mine());
    pass(0);
  } else if (state === 'stopping') {
    stopped = page.state !== state;
  } else if (['running', 'starting', 'failed'].includes(state)) {
    if (state !== page.state || code !== page.code) go();
  } else if (stopped || (known && state !== 'vanished')) {
    // Somebody stopped it: to look again would start it.
    page.state = state;
    all('off').forEach((one) => { one.hidden = one.dataset.off === 'hide'; });
  } else if (page.page === 'waiting' && page.state === 'starting' && !known) {
    // What answers is not what starts it, and may not have heard of it yet.
    setTimeout(() => known || go(), 5000);
  } else if (page.page === 'waiting' || page.passes) {
    go();
  }
};

const pass = (seconds) => {
  const { seconds: before } = mine();
  if (before !== undefined) write('elapsed', time(before + seconds));
};
