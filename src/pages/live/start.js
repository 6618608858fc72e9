// How far a start has come: its stages in the page.
const course = ({ stage, position, stages }) => {
  let place = 'done';
  all('stage').forEach((item) => {
    const { firstChild: label, lastChild: small, dataset } = item;
    const isNow = dataset.stage === stage;
    const seen = stages.find(({ name }) => name === dataset.stage);
    item.className = isNow ? 'now' : place;
    item.ariaCurrent = isNow ? 'step' : null;
    if (isNow) small.textContent = position ? `number ${position} in the queue` : '';
    else if (seen) small.textContent = time(seen.seconds);
    if (isNow) place = 'later';
    if (isNow) write('now', label.textContent);
  });
};
