//! Telling somebody of a session again and again: the events of its pages.
//!
//! It is told here, on control; whoever carries the words to a client awaits a channel and nothing else. To listen
//! starts nothing, and is no use of the session.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{ActivateError, Activator, Overview, SpawnError, listeners::Listener, phase};
use crate::{
    session::{Phase, Reason, Services, SessionId},
    shutdown::Stage,
};

/// After so long without news a word is said all the same: proxies give up a silent answer after 30 s or more, and a
/// client that has gone is noticed by what it does not take.
const BEAT: Duration = Duration::from_secs(15);
/// When a record is read again that could not be read.
const AGAIN: Duration = Duration::from_secs(5);

impl Activator {
    /// Tells where a session stands: now, and whenever that changes; nothing, as `write` has it for `None`, after 15 s
    /// without news. Who is slow is told the newest only. It ends when the process drains, when the platform no longer
    /// knows the session, and when the receiver is dropped.
    ///
    /// # Errors
    /// `Crowded` above `spawn.held` listeners; `Look` if nothing runs here and the record cannot be read.
    pub async fn follow<T: Send + 'static>(
        self: &Arc<Self>,
        id: SessionId,
        services: &Services,
        write: impl Fn(Option<&Overview>) -> T + Send + 'static,
    ) -> Result<mpsc::Receiver<T>, ActivateError> {
        let most = self.config.held;
        let listener = self.table.listen(id, most);
        let listener = listener.ok_or(ActivateError::Crowded(id, most))?;
        let first = self.overview(id, services).await;
        let first = first.map_err(|error| ActivateError::Look(id, error))?;
        let (tell, told) = mpsc::channel(1);
        let (activator, services) = (Arc::clone(self), services.clone());
        self.drain.spawn("events", async move {
            let drained = activator.drain.clone();
            tokio::select! {
                () = activator.tell(&listener, &services, first, (&tell, write)) => {}
                () = tell.closed() => {}
                () = drained.reached(Stage::Draining) => {}
            }
        });
        Ok(told)
    }

    async fn tell<T>(
        self: &Arc<Self>,
        listener: &Listener,
        services: &Services,
        first: Overview,
        (tell, write): (&mpsc::Sender<T>, impl Fn(Option<&Overview>) -> T),
    ) {
        let (mut last, mut news, mut woken) = (first, true, true);
        loop {
            // Room first: who is slow is told the newest.
            let Ok(room) = tell.reserve().await else {
                return;
            };
            room.send(write(news.then_some(&last)));
            let beat = Instant::now() + BEAT;
            news = loop {
                // In this order, or a change between the two would be slept through.
                let changed = listener.waiters.changed.notified();
                let again = match self.again(&last, services, woken).await {
                    Ok(now) if !now.says_what(&last) => {
                        last = now;
                        break true;
                    }
                    Ok(_) => retry(&last).unwrap_or(beat),
                    Err(error) if *error.reason == Reason::NoProject => return,
                    Err(_) => Instant::now() + AGAIN,
                };
                tokio::select! {
                    () = changed => woken = true,
                    () = sleep_until(again.min(beat)) => woken = again < beat,
                }
                if Instant::now() >= beat {
                    break false;
                }
            };
        }
    }

    /// Where the session stands now. Its record is read only where nothing is known here, and something has changed.
    async fn again(
        self: &Arc<Self>,
        last: &Overview,
        services: &Services,
        woken: bool,
    ) -> Result<Overview, SpawnError> {
        let (slot, now) = (self.table.slot(last.id), Instant::now());
        let stands = |service| phase(&slot, service, now);
        let phases: Option<Vec<Phase>> = services.iter().map(|(one, _)| stands(one)).collect();
        match phases {
            Some(phases) => Ok(Overview::of(last.id, &slot, phases, last.used)),
            None if !woken => Ok(last.clone()),
            None => self.overview(last.id, services).await,
        }
    }
}

/// When a failure keeps nobody waiting any more: the session stands elsewhere then, and nobody says so.
fn retry(overview: &Overview) -> Option<Instant> {
    let failures = overview.services.iter().filter_map(|(_, phase, _)| {
        let Phase::Failed(failure) = phase else {
            return None;
        };
        Some(failure.retry_at)
    });
    failures.min()
}
