// A session's service that sends events: each as soon as the one before has arrived, or as many as it can.

import { once } from 'node:events';
import { createServer } from 'node:http';

// Ten a second, as a language model writes: what is slower than the wire meets timers that wait for more to send.
const PACE = 100;
const streams = new Map();
let streamed = 0;

const calls = {
  /** Events of a stream with this name. The next is sent only when the last is reported to have arrived. */
  'GET /one-by-one': (answer, { of, count }) => {
    begin(answer);
    streams.set(of, { answer, count: Number(count), sent: 0 });
    send(streams.get(of));
  },
  /** The report. The last one ends the stream. */
  'POST /arrived': (answer, { of, event }) => {
    const stream = streams.get(of);
    const isLast = Number(event) === stream.sent - 1;
    answer.writeHead(isLast ? 204 : 409).end();
    if (!isLast) return;
    if (stream.sent === stream.count) stream.answer.end(); else setTimeout(send, PACE, stream);
  },
  'GET /at-once': async (answer, { count }) => {
    begin(answer);
    for (let n = 0; n < count; n += 1) if (!answer.write(event(n))) await once(answer, 'drain');
    answer.end();
    streamed += 1;
  },
  /** How many streams were sent to their end. */
  'GET /streamed': (answer) => answer.end(String(streamed)),
};

function begin(answer) {
  answer.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
}

function event(number) {
  return `id: ${number}\ndata: token ${number}\n\n`;
}

function send(stream) {
  stream.answer.write(event(stream.sent));
  stream.sent += 1;
}

createServer((request, answer) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const call = calls[`${request.method} ${pathname}`];
  if (call) call(answer, Object.fromEntries(searchParams)); else answer.writeHead(404).end();
}).listen(Number(process.env.PORT), '127.0.0.1');
