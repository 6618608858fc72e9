//! Connections that carry no request at present.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, time::Duration};

use ahash::RandomState;
use tokio::time::Instant;

use super::socket::Socket;
use crate::activator::InstanceUid;

/// How long a connection may lie idle: below the 5 s after which code-server, Vite, Next and webpack's server close
/// it themselves, or a request would meet the closing.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept for one service: as many as many pages load files at once. They are gone 4 s after.
const KEPT: usize = 256;

/// Whose connections, and where they lead: a pod whose sandbox was made anew has another address.
pub(super) type Key = (InstanceUid, SocketAddr);

#[derive(Default)]
pub(super) struct Pool(RefCell<HashMap<Key, Vec<Socket>, RandomState>>);

impl Pool {
    /// The connection used last, since it is the least likely to be closed by its service now.
    pub(super) fn take(&self, key: Key, now: Instant) -> Option<Socket> {
        let mut pools = self.0.borrow_mut();
        let idle = pools.get_mut(&key)?;
        while let Some(mut socket) = idle.pop() {
            if now - socket.since < IDLE && socket.is_idle() {
                socket.since = now;
                return Some(socket);
            }
        }
        pools.remove(&key);
        None
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(&self, key: Key, mut socket: Socket) {
        let mut pools = self.0.borrow_mut();
        let idle = pools.entry(key).or_default();
        if idle.len() < KEPT {
            socket.since = Instant::now();
            idle.push(socket);
        }
    }

    /// Closes what has been here for too long, or whose other end has.
    pub(super) fn sweep(&self) {
        self.0.borrow_mut().retain(|_, idle| {
            idle.retain(|socket| socket.since.elapsed() < IDLE && socket.is_idle());
            !idle.is_empty()
        });
    }
}
