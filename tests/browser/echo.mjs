// A session's service that sends every websocket message back as it came. A text that is a command is carried out.

import { createRequire } from 'node:module';

const { WebSocketServer } = createRequire(import.meta.url)('ws');

const LARGEST = 128 << 20;
const ended = [];
const server = new WebSocketServer({
  host: '127.0.0.1', port: Number(process.env.PORT), maxPayload: LARGEST, perMessageDeflate: { threshold: 0 },
});
server.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('close', (code, reason) => ended.push({ code, reason: reason.toString() }));
  socket.on('message', (bytes, isBinary) => {
    const [word, ...rest] = isBinary ? [] : bytes.toString().split(' ');
    switch (word) {
      case 'close': return socket.close(Number(rest[0]), rest.slice(1).join(' '));
      case 'cut': return socket.terminate();
      case 'ended': return socket.send(JSON.stringify(ended));
      default: return socket.send(bytes, { binary: isBinary });
    }
  });
});
