//! Connections that carry no request at present, or only the rest of one that was answered.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, time::Duration};

use futures_util::FutureExt;
use hyper::client::conn::http1::SendRequest;
use tokio::{sync::oneshot, time::Instant};

use super::Connection;
use crate::{activator::InstanceUid, gateway::body::Upload};

/// How long a connection may lie idle: below the 5 s after which code-server, Vite, Next and webpack's server close
/// it themselves, or a request would meet the closing.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept for one service: as many as many pages load files at once. They are gone 4 s after.
const KEPT: usize = 256;
/// How long a request that was answered before its end may go on: a client that still sends would miss the answer if
/// its connection were reset at once.
const GRACE: Duration = Duration::from_secs(2);

/// Whose connections, and where they lead: a pod whose sandbox was made anew has another address.
pub(super) type Key = (InstanceUid, SocketAddr);

#[derive(Default)]
pub(super) struct Pool {
    idle: RefCell<HashMap<Key, Vec<Idle>>>,
    /// Connections whose request was answered before its end, and since when.
    lingering: RefCell<Vec<(Connection, Instant)>>,
}

struct Idle {
    sender: SendRequest<Upload>,
    alive: oneshot::Sender<()>,
    since: Instant,
}

impl Pool {
    /// The connection used last, since it is the least likely to be closed by its service now.
    pub(super) fn take(&self, key: Key) -> Option<(SendRequest<Upload>, oneshot::Sender<()>)> {
        let mut pools = self.idle.borrow_mut();
        let idle = pools.get_mut(&key)?;
        while let Some(Idle {
            mut sender,
            alive,
            since,
        }) = idle.pop()
        {
            let usable =
                since.elapsed() < IDLE && matches!(sender.ready().now_or_never(), Some(Ok(())));
            if usable {
                return Some((sender, alive));
            }
        }
        pools.remove(&key);
        None
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(&self, key: Key, sender: SendRequest<Upload>, alive: oneshot::Sender<()>) {
        let mut pools = self.idle.borrow_mut();
        let idle = pools.entry(key).or_default();
        if idle.len() < KEPT && !sender.is_closed() {
            idle.push(Idle {
                sender,
                alive,
                since: Instant::now(),
            });
        }
    }

    /// Keeps a connection for the rest of a request that was answered before its end.
    pub(super) fn linger(&self, connection: Connection) {
        let since = Instant::now();
        self.lingering.borrow_mut().push((connection, since));
    }

    /// Closes what has been here for too long.
    pub(super) fn sweep(&self) {
        let lingers = |(one, since): &mut (Connection, Instant)| {
            let open = one.upload.as_ref().is_some_and(|upload| upload.is_open());
            open && since.elapsed() < GRACE
        };
        self.lingering.borrow_mut().retain_mut(lingers);
        self.idle.borrow_mut().retain(|_, idle| {
            idle.retain(|Idle { sender, since, .. }| since.elapsed() < IDLE && !sender.is_closed());
            !idle.is_empty()
        });
    }
}
