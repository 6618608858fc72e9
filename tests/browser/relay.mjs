// A TCP relay before a gateway. It counts what is connected, can cut or lose it, and can lead on to another
// gateway.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

const HOST = '127.0.0.1';

export class Relay {
  #server;
  #target;
  #open = new Set();

  /** Connections that were made through it, those that have ended included. */
  made = 0;

  /** A relay to this port, from a free one or from its own. */
  static async to(port, own = 0) {
    const relay = new Relay();
    relay.lead(port);
    // A side that has said all that it has to say may still listen.
    relay.#server = createServer({ allowHalfOpen: true }, (client) => relay.#join(client));
    relay.#server.listen(own, HOST);
    await once(relay.#server, 'listening');
    return relay;
  }

  get port() {
    return this.#server.address().port;
  }

  /** How many connections are open. */
  get open() {
    return this.#open.size;
  }

  /** Where connections lead that are made from now on. */
  lead(port) {
    this.#target = port;
  }

  /** Cuts all connections as a network does that fails: both sides are reset, and no last word is passed on. */
  cut() {
    for (const sides of this.#open) sides.forEach((side) => side.resetAndDestroy());
  }

  /** Loses all connections as a computer does that sleeps: nothing passes, and neither side is told. */
  lose() {
    for (const sides of this.#open) {
      for (const side of sides) side.unpipe().pause();
    }
  }

  async close() {
    this.#server.close();
    this.cut();
    await once(this.#server, 'close');
  }

  #join(client) {
    this.made += 1;
    const gateway = connect({ host: HOST, port: this.#target, allowHalfOpen: true });
    const sides = [client, gateway];
    this.#open.add(sides);
    for (const [from, to] of [sides, sides.toReversed()]) {
      from.setNoDelay(true);
      from.pipe(to);
      from.on('error', () => to.resetAndDestroy());
      from.on('close', () => {
        this.#open.delete(sides);
        // Nothing when both sides have ended well.
        to.destroySoon();
      });
    }
  }
}
