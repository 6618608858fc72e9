// A page that has nothing to follow: it looks again after its time.
const { again, to } = document.body.dataset;
setTimeout(() => (to ? location.replace(to) : location.reload()), again * 1000);
