//! How many connections there may be, in all and of one address, over all workers.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use dashmap::{DashMap, mapref::entry::Entry};
use tokio::time::Instant;

use crate::{
    gateway::Limits,
    metrics::{OpenConnection, WorkerMeters},
};

/// Between two lines of the log about the same: whoever can connect could fill it.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// The connections of all workers.
#[derive(Default)]
pub struct Connections {
    open: AtomicUsize,
    clients: DashMap<IpAddr, usize, ahash::RandomState>,
    strangers: Said,
    full: Said,
}

/// When something was last logged.
#[derive(Default)]
struct Said(Mutex<Option<Instant>>);

/// One of them, while it lives.
#[must_use]
pub(in crate::gateway) struct Open(
    Arc<Connections>,
    #[expect(dead_code, reason = "it is held, not read")] OpenConnection,
);

/// One of an address, while it lives.
#[must_use]
pub(in crate::gateway) struct OpenOf(Arc<Connections>, IpAddr);

impl Connections {
    /// Whether a stranger on a balancer's port is to be logged: not so soon after another.
    pub(in crate::gateway) fn says_stranger(&self) -> bool {
        self.strangers.again()
    }

    /// Whether it is to be logged that connections wait for descriptors: not so soon after the last time.
    pub(in crate::gateway) fn says_full(&self) -> bool {
        self.full.again()
    }

    /// Counts a connection, unless there are too many.
    pub(in crate::gateway) fn open(
        self: &Arc<Self>,
        limits: &Limits,
        meters: &Arc<WorkerMeters>,
    ) -> Option<Open> {
        let open = Open(Arc::clone(self), meters.connection());
        // Counted first: two that come at once must not both be the last.
        (self.open.fetch_add(1, Relaxed) < limits.connections).then_some(open)
    }

    /// Counts a connection of this address, unless it has too many.
    pub(in crate::gateway) fn of(
        self: &Arc<Self>,
        client: IpAddr,
        limits: &Limits,
    ) -> Option<OpenOf> {
        let mut count = self.clients.entry(client).or_insert(0);
        if *count >= limits.connections_per_client {
            return None;
        }
        *count += 1;
        drop(count);
        Some(OpenOf(Arc::clone(self), client))
    }
}

impl Said {
    fn again(&self) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let again = said.is_none_or(|said| said.elapsed() >= SAID_AGAIN);
        if again {
            *said = Some(Instant::now());
        }
        again
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl Drop for OpenOf {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.0.clients.entry(self.1) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}
