//! Those who listen to a session for as long as they like, whether anything is known of it or not.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::table::{Table, Waiters};
use crate::session::SessionId;

/// Whom a session's next slot has to wake, and how many listeners that are.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<HashMap<SessionId, (Arc<Waiters>, usize)>>);

/// One who listens, until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    table: Arc<Table>,
    id: SessionId,
    /// Woken by every change of the session, also of one that is forgotten meanwhile and comes back.
    pub(super) waiters: Arc<Waiters>,
}

impl Listeners {
    fn all(&self) -> MutexGuard<'_, HashMap<SessionId, (Arc<Waiters>, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of a session that gets a slot.
    pub(super) fn of(&self, id: SessionId) -> Arc<Waiters> {
        let all = self.all();
        all.get(&id)
            .map(|(waiters, _)| Arc::clone(waiters))
            .unwrap_or_default()
    }

    /// One more, unless there are `most`. `waiters` are those of the session's slot, if it has one.
    pub(super) fn join(
        &self,
        table: &Arc<Table>,
        id: SessionId,
        waiters: Option<&Arc<Waiters>>,
        most: usize,
    ) -> Option<Listener> {
        let mut all = self.all();
        let (waiters, count) = all
            .entry(id)
            .or_insert_with(|| (waiters.cloned().unwrap_or_default(), 0));
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Listener {
            table: Arc::clone(table),
            id,
            waiters: Arc::clone(waiters),
        })
    }

    fn leave(&self, id: SessionId) {
        let mut all = self.all();
        if let Entry::Occupied(mut entry) = all.entry(id) {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                entry.remove();
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.table.listeners.leave(self.id);
    }
}
