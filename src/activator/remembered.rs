//! What was asked about sessions, remembered for a while.
//!
//! However many ask at once, one question answers them all; and what is remembered is bounded, whoever asks for what.

use std::{future::Future, sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::{sync::OnceCell, time::Instant};

use super::spawner::SpawnError;
use crate::session::SessionId;

/// How many answers are remembered, a few hundred bytes each. Past it all are forgotten: they are young.
const CAPACITY: usize = 4096;

type Outcome<T> = Result<T, SpawnError>;
/// How long an answer holds.
type Fresh<T> = dyn Fn(&Outcome<T>) -> Duration + Send + Sync;

/// Remembered answers of one kind.
pub struct Remembered<T> {
    fresh: Box<Fresh<T>>,
    answers: DashMap<SessionId, Arc<Answer<T>>, ahash::RandomState>,
}

/// An answer, with the time when it came; or the question, while it is under way.
struct Answer<T>(OnceCell<(Instant, Outcome<T>)>);

impl<T: Clone> Remembered<T> {
    /// Nothing yet. `fresh` says how long an answer holds.
    pub fn new(fresh: impl Fn(&Outcome<T>) -> Duration + Send + Sync + 'static) -> Self {
        Self {
            fresh: Box::new(fresh),
            answers: DashMap::default(),
        }
    }

    /// The answer about a session, by `ask` unless there is a fresh one or somebody is asking already. Dropping the
    /// future leaves the question to the others who wait.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn get<F>(&self, id: SessionId, ask: impl FnOnce() -> F) -> Outcome<T>
    where
        F: Future<Output = Outcome<T>>,
    {
        let answer = self.answer(id);
        let asked = async || {
            let outcome = ask().await;
            (Instant::now(), outcome)
        };
        let (_, outcome) = answer.0.get_or_init(asked).await;
        outcome.clone()
    }

    /// Forgets a session of which something has changed.
    pub fn forget(&self, id: SessionId) {
        self.answers.remove(&id);
    }

    fn answer(&self, id: SessionId) -> Arc<Answer<T>> {
        let now = Instant::now();
        if self.answers.len() >= CAPACITY {
            self.answers.retain(|_, answer| self.holds(answer, now));
            if self.answers.len() >= CAPACITY {
                self.answers.clear();
            }
        }
        let new = || Arc::new(Answer(OnceCell::new()));
        let mut answer = self.answers.entry(id).or_insert_with(new);
        if !self.holds(&answer, now) {
            *answer = new();
        }
        Arc::clone(&answer)
    }

    fn holds(&self, answer: &Answer<T>, now: Instant) -> bool {
        let came = answer.0.get();
        came.is_none_or(|(came, outcome)| now < *came + (self.fresh)(outcome))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use futures_util::future::join_all;

    use super::*;
    use crate::session::Reason;

    const FRESH: Duration = Duration::from_secs(10);

    fn remembered() -> Remembered<usize> {
        Remembered::new(|outcome| {
            if outcome.is_ok() {
                FRESH
            } else {
                Duration::ZERO
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_answers_all_and_holds_for_its_time() {
        let (remembered, asked, id) = (remembered(), AtomicUsize::new(0), SessionId::random());
        let ask = || async {
            tokio::time::sleep(FRESH * 2).await;
            Ok(asked.fetch_add(1, Relaxed))
        };
        let all = join_all((0..9).map(|_| remembered.get(id, ask))).await;
        assert!(all.iter().all(|one| matches!(one, Ok(0))), "{all:?}");
        tokio::time::advance(FRESH - Duration::from_millis(1)).await;
        assert_eq!(remembered.get(id, ask).await.unwrap(), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(remembered.get(id, ask).await.unwrap(), 1);
        remembered.forget(id);
        assert_eq!(remembered.get(id, ask).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_waited_and_not_remembered() {
        let (remembered, asked, id) = (remembered(), AtomicUsize::new(0), SessionId::random());
        let fail = || async {
            asked.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
            Err(SpawnError::new(Reason::Internal))
        };
        let all = join_all((0..9).map(|_| remembered.get(id, fail))).await;
        assert!(all.iter().all(Result::is_err));
        assert_eq!(asked.load(Relaxed), 1);
        assert!(remembered.get(id, fail).await.is_err());
        assert_eq!(asked.load(Relaxed), 2);
    }

    #[tokio::test]
    async fn no_more_is_remembered_than_there_is_room_for() {
        let remembered = remembered();
        for number in 0..CAPACITY * 2 {
            let id = SessionId::random();
            let answer = remembered.get(id, || async { Ok(number) }).await;
            assert_eq!(answer.unwrap(), number);
            assert!(remembered.answers.len() <= CAPACITY);
        }
    }
}
