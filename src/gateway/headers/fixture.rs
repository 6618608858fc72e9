//! What the unit tests of the header rules share: a client, the address it knows, and the way to a service.

use std::{net::SocketAddr, sync::LazyLock};

use http::HeaderValue;

use super::{Hop, Public};
use crate::{gateway::Peer, session::ServiceSpec};

pub(in crate::gateway) static PEER: LazyLock<Peer> =
    LazyLock::new(|| Peer::new([192, 0, 2, 7].into(), false, false));
pub(super) static PUBLIC: LazyLock<Public> = LazyLock::new(|| public(false));

pub(super) fn public(secure: bool) -> Public {
    Public::new(HeaderValue::from_static("gw.test"), secure).unwrap()
}

/// To a service at port 4321 of this machine, below `/ID/x`.
pub(super) fn hop(spec: &ServiceSpec) -> Hop<'_> {
    Hop {
        spec,
        prefix: "/ID/x",
        public: &PUBLIC,
        peer: &PEER,
        upstream: SocketAddr::from(([127, 0, 0, 1], 4321)),
    }
}
