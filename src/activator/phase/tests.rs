use std::sync::Arc;

use super::*;
use crate::session::{Failure, Reason};

fn phases() -> [Phase; 7] {
    let failure = Failure {
        reason: Arc::new(Reason::Internal),
        retry_at: Instant::now(),
        attempts: 1,
        passes: false,
    };
    [
        Phase::Idle(Found::Absent),
        Phase::Idle(Found::Stopped),
        Phase::Idle(Found::Vanished),
        Phase::Starting {
            stage: Stage::Queue,
            since: Instant::now(),
            position: Some(1),
            course: None,
        },
        Phase::Failed(failure),
        Phase::Ending,
        Phase::Running,
    ]
}

/// README, "What a request gets": every cell, with the vanished and the running session beside it.
#[test]
fn every_kind_of_request_gets_what_the_table_says() {
    use Meanwhile::{Hold, Page, Refuse};
    use Verdict::{Forward, Leave, Start};
    #[rustfmt::skip]
    let table = [
        // absent, stopped, vanished, starting, failed, ending, running
        (Intent::Navigation, [Start(Page),  Start(Page),  Start(Page),  Leave(Page),  Leave(Page),   Leave(Page),  Forward]),
        (Intent::Submission, [Leave(Page),  Leave(Page),  Leave(Page),  Leave(Page),  Leave(Page),   Leave(Page),  Forward]),
        (Intent::Api,        [Start(Hold),  Start(Hold),  Start(Hold),  Leave(Hold),  Leave(Refuse), Leave(Hold),  Forward]),
        (Intent::Asset,      [Leave(Refuse), Leave(Refuse), Start(Hold), Leave(Hold), Leave(Refuse), Leave(Hold),  Forward]),
        (Intent::PageSocket, [Leave(Refuse), Leave(Refuse), Start(Hold), Leave(Hold), Leave(Refuse), Leave(Hold),  Forward]),
        (Intent::ApiSocket,  [Start(Hold),  Start(Hold),  Start(Hold),  Leave(Hold),  Leave(Refuse), Leave(Hold),  Forward]),
        (Intent::Passive,    [Leave(Refuse); 6].iter().copied().chain([Forward]).collect::<Vec<_>>().try_into().unwrap()),
    ];
    assert_eq!(table.len(), Intent::ALL.len());
    for (intent, row) in table {
        for (phase, expected) in phases().iter().zip(row) {
            assert_eq!(
                verdict(intent, Trigger::Any, phase),
                expected,
                "{intent:?} while {}",
                phase.name()
            );
        }
    }
}

/// What the other triggers take away from `any`, and nothing else.
#[test]
fn a_narrower_trigger_takes_starts_away_and_nothing_else() {
    use Meanwhile::{Page, Refuse};
    use Verdict::Leave;
    for phase in &phases() {
        for intent in Intent::ALL {
            let any = verdict(intent, Trigger::Any, phase);
            let unstarted = matches!(phase, Phase::Idle(Found::Absent | Found::Stopped));
            let navigation = match intent {
                Intent::Api | Intent::ApiSocket if unstarted => Leave(Refuse),
                _ => any,
            };
            let api = match intent {
                Intent::Navigation if unstarted => Leave(Page),
                _ => navigation,
            };
            assert_eq!(
                verdict(intent, Trigger::Navigation, phase),
                navigation,
                "{intent:?} while {}",
                phase.name()
            );
            assert_eq!(
                verdict(intent, Trigger::Api, phase),
                api,
                "{intent:?} while {}",
                phase.name()
            );
        }
    }
}
