//! What ends a tunnel from without. All of it is asked again with each message, in vain as a rule, so that is cheap.

use std::{cell::Cell, future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, sleep},
};

use crate::shutdown::{Drain, Stage};

/// Looks for silence within `timeouts.websocket`: the fewer, the later it is found. So the clock is not read for each
/// message.
const LOOKS: u32 = 8;

/// Waits until nothing has moved for this long. The clock is asked once for each look; it must be the same task that
/// asks.
pub(super) fn silence(moved: &Cell<bool>, time: Duration) -> impl Future<Output = ()> {
    let wait = time / LOOKS;
    async move {
        let mut silent = 0;
        while silent < LOOKS {
            let mut look = pin!(sleep(wait));
            let mut is_asked = false;
            poll_fn(move |cx| {
                if is_asked && !look.is_elapsed() {
                    return Poll::Pending;
                }
                // A task out of its budget is turned away before it is heard.
                is_asked = has_budget_remaining();
                look.as_mut().poll(cx)
            })
            .await;
            silent = if moved.take() { 0 } else { silent + 1 };
        }
    }
}

/// Waits for the end of the process and then for its turn, so that not all clients come back at once. Returns when the
/// window ends.
pub(super) async fn told(drain: &Drain, window: Duration) -> Instant {
    thread_local! {
        static TURN: Cell<u32> = const { Cell::new(0) };
    }
    drain.reached(Stage::Draining).await;
    let end = Instant::now() + window;
    // The bits of a counter in reverse fill any number of turns evenly (van der Corput).
    let turn = TURN.replace(TURN.get().wrapping_add(1)).reverse_bits();
    sleep(window.mul_f64(f64::from(turn) / f64::from(u32::MAX))).await;
    end
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::shutdown::Ending;

    #[tokio::test(start_paused = true)]
    async fn the_turns_of_a_drain_fill_its_window_evenly() {
        let ending = Ending::new();
        let drain = ending.drain(tokio::runtime::Handle::current());
        let begun = Instant::now();
        ending.advance(Stage::Draining);
        let window = Duration::from_secs(10);
        let turns = (0..100).map(|_| async {
            let end = told(&drain, window).await;
            assert_eq!(end - begun, window);
            begun.elapsed().as_secs()
        });
        let mut by_second = [0; 10];
        for second in join_all(turns).await {
            by_second[usize::try_from(second).unwrap()] += 1;
        }
        assert!(
            by_second.iter().all(|turns| (9..=11).contains(turns)),
            "{by_second:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_found_soon_after_its_time_and_never_before() {
        let moved = Cell::new(true);
        let begun = Instant::now();
        silence(&moved, Duration::from_secs(8)).await;
        assert!((8..=10).contains(&begun.elapsed().as_secs()));
    }
}
