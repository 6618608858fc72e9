//! How many sessions there are, in all and of each user: what the watch says, and this replica's own starts.

use std::{collections::HashMap, sync::Arc};

/// How a session counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Something of it is there, whoever started it.
    There,
    /// This replica is at it, and nothing is seen of it yet.
    Starting,
    /// It waits for its turn in this replica.
    Queued,
}

/// So many sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Count {
    pub(super) there: usize,
    pub(super) starting: usize,
    pub(super) queued: usize,
}

/// All sessions that count.
#[derive(Debug, Default)]
pub(super) struct Tally {
    all: Count,
    users: HashMap<Arc<str>, Count>,
}

/// How a session counts, and to whom.
pub(super) type Counted = Option<(Place, Option<Arc<str>>)>;

impl Tally {
    /// Of all sessions, and of this user's.
    pub(super) fn counts(&self, user: &str) -> (Count, Count) {
        let own = self.users.get(user).copied().unwrap_or_default();
        (self.all, own)
    }

    /// A session counts otherwise than before.
    pub(super) fn change(&mut self, before: Counted, after: Counted) {
        if let Some((place, user)) = before {
            *self.all.at(place) -= 1;
            if let Some(user) = user
                && let Some(count) = self.users.get_mut(&user)
            {
                *count.at(place) -= 1;
                if *count == Count::default() {
                    self.users.remove(&user);
                }
            }
        }
        if let Some((place, user)) = after {
            *self.all.at(place) += 1;
            if let Some(user) = user {
                *self.users.entry(user).or_default().at(place) += 1;
            }
        }
    }
}

impl Count {
    /// Those that are there or are being started.
    pub(super) fn begun(self) -> usize {
        self.there + self.starting
    }

    fn at(&mut self, place: Place) -> &mut usize {
        match place {
            Place::There => &mut self.there,
            Place::Starting => &mut self.starting,
            Place::Queued => &mut self.queued,
        }
    }
}
