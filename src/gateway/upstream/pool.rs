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

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncReadExt as _,
        net::{TcpListener, TcpStream},
        time::{advance, sleep, timeout},
    };
    use uuid::Uuid;

    use super::*;

    /// A connection, and the service's end of it.
    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let socket = Socket::new(dialled.expect("it accepts"), Instant::now());
        (socket, accepted.expect("somebody comes").0)
    }

    fn key() -> Key {
        let uid = InstanceUid(Uuid::new_v4());
        (uid, SocketAddr::from(([127, 0, 0, 1], 80)))
    }

    /// Whether the gateway has closed it.
    async fn is_closed(end: &mut TcpStream) -> bool {
        let read = timeout(Duration::from_millis(1), end.read_u8()).await;
        read.is_ok_and(|read| read.is_err())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_lain_idle_for_long_is_closed_and_not_used_again() {
        let moment = Duration::from_millis(1);
        for (lain, is_taken) in [
            (Duration::ZERO, true),
            (IDLE - moment, true),
            (IDLE, false),
            (Duration::from_millis(4_999), false),
        ] {
            let (pool, key) = (Pool::default(), key());
            let (socket, mut end) = pair().await;
            pool.put(key, socket);
            advance(lain).await;
            let taken = pool.take(key, Instant::now());
            assert_eq!(taken.is_some(), is_taken, "after {lain:?}");
            assert_eq!(is_closed(&mut end).await, !is_taken, "after {lain:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_for_its_own_instance_and_address_alone() {
        let (pool, own) = (Pool::default(), key());
        let (socket, _end) = pair().await;
        pool.put(own, socket);
        let address = SocketAddr::from(([127, 0, 0, 2], 80));
        for other in [key(), (own.0, address)] {
            assert!(pool.take(other, Instant::now()).is_none(), "{other:?}");
        }
        assert!(pool.take(own, Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_sweep_closes_what_is_old_or_left_by_its_service_and_nothing_else() {
        let (pool, old, young) = (Pool::default(), key(), key());
        let (socket, mut old_end) = pair().await;
        pool.put(old, socket);
        advance(IDLE / 2).await;
        let (socket, left_end) = pair().await;
        pool.put(young, socket);
        let (socket, mut young_end) = pair().await;
        pool.put(young, socket);
        drop(left_end);
        // So that it is heard of.
        sleep(IDLE / 2).await;
        pool.sweep();
        assert!(is_closed(&mut old_end).await);
        assert!(!is_closed(&mut young_end).await);
        let kept: Vec<_> = pool
            .0
            .borrow()
            .iter()
            .map(|(key, idle)| (*key, idle.len()))
            .collect();
        assert_eq!(kept, [(young, 1)]);
    }
}
