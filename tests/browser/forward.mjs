// A session's service that is somewhere else: connections to its own port are led there.

import { Relay } from './relay.mjs';

await Relay.to(process.argv[2], process.env.PORT);
