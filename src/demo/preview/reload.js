// Reloads the page when the workspace's version is no longer the one it was served with.
(() => {
  const script = document.currentScript;
  const url = new URL("reload", script.src);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  let wait = 250;
  let leaving = false;

  function connect() {
    const socket = new WebSocket(url);
    socket.onmessage = (message) => {
      wait = 250;
      if (message.data !== script.dataset.version && !leaving) {
        leaving = true;
        location.reload();
      }
    };
    // A service that starts again has another version: its first message reloads the page.
    socket.onclose = () => {
      if (leaving) return;
      setTimeout(connect, wait * (0.75 + Math.random() / 2));
      wait = Math.min(wait * 2, 10000);
    };
  }

  addEventListener("pagehide", () => { leaving = true; });
  // Back from the browser's memory of the page, whose socket was closed.
  addEventListener("pageshow", (event) => { if (event.persisted) { leaving = false; connect(); } });
  connect();
})();
