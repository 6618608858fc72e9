//! What the durable records say of sessions that do not run, remembered for a second.
//!
//! A request for a session without a running instance has to know whether it is absent, stopped or vanished. However
//! many ask at once, one read answers them all; and what is remembered is bounded, whoever asks for what.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::{sync::OnceCell, time::Instant};

use super::spawner::{Seen, SpawnError, Spawner};
use crate::{
    session::{Reason, SessionId},
    shutdown::Drain,
};

/// How long an answer holds. Long enough for one page's burst of requests, short enough that what another replica
/// did meanwhile is seen at the next reload.
const FRESH: Duration = Duration::from_secs(1);
/// How many answers are remembered, about 200 bytes each. Past it all are forgotten: they are a second old at most.
const CAPACITY: usize = 4096;

/// The remembered answers. One per replica.
pub(super) struct Records {
    spawner: Arc<dyn Spawner>,
    answers: DashMap<SessionId, Arc<Answer>, ahash::RandomState>,
}

struct Answer {
    asked: Instant,
    seen: OnceCell<Result<Seen, SpawnError>>,
}

impl Records {
    pub(super) fn new(spawner: Arc<dyn Spawner>) -> Self {
        Self {
            spawner,
            answers: DashMap::default(),
        }
    }

    /// The record of a session, at most a second old. Dropping the future leaves the read to the others who wait.
    pub(super) async fn look(&self, id: SessionId, drain: &Drain) -> Result<Seen, SpawnError> {
        let answer = self.answer(id);
        let read = || async {
            let spawner = Arc::clone(&self.spawner);
            // On control: a worker waits for no disk and no API server.
            let read = drain.spawn("look", async move { spawner.look(id).await });
            read.await
                .unwrap_or_else(|_| Err(SpawnError::new(Reason::Internal)))
        };
        let seen = answer.seen.get_or_init(read).await.clone();
        if seen.is_err() {
            // It took a while and answered all who waited; the next one is to see whether it works again.
            self.answers
                .remove_if(&id, |_, now| Arc::ptr_eq(now, &answer));
        }
        seen
    }

    /// Forgets a session whose record this replica has changed.
    pub(super) fn forget(&self, id: SessionId) {
        self.answers.remove(&id);
    }

    fn answer(&self, id: SessionId) -> Arc<Answer> {
        let now = Instant::now();
        if self.answers.len() >= CAPACITY {
            self.answers.retain(|_, answer| now < answer.asked + FRESH);
            if self.answers.len() >= CAPACITY {
                self.answers.clear();
            }
        }
        let mut answer = self
            .answers
            .entry(id)
            .or_insert_with(|| Arc::new(Answer::asked(now)));
        if now >= answer.asked + FRESH {
            *answer = Arc::new(Answer::asked(now));
        }
        Arc::clone(&answer)
    }
}

impl Answer {
    fn asked(now: Instant) -> Self {
        Self {
            asked: now,
            seen: OnceCell::new(),
        }
    }
}
