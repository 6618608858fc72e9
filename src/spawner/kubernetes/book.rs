//! Which pods there are: what the watch said last of each, and what follows from it for the table. Pure.
//!
//! Two pods with one address are never routed to: one of them is gone and the watch has not said so yet, or the
//! cluster's network is broken, and nobody can tell which of the two would answer.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jiff::Timestamp;

use super::status::{State, View};
use crate::{
    activator::{InstanceUid, Observed, Progress},
    session::{Reason, SessionId, Stage},
};

/// All pods of sessions.
#[derive(Debug, Default)]
pub(super) struct Book {
    pods: HashMap<InstanceUid, Known, ahash::RandomState>,
    /// Who claims each address, in order: one pod, all but always.
    addresses: HashMap<IpAddr, Vec<Claim>, ahash::RandomState>,
    /// Those that the list under way has not named so far.
    unseen: Option<BTreeSet<Claim>>,
}

/// A pod in an order.
type Claim = (SessionId, u128);

#[derive(Debug)]
struct Known {
    view: View,
    /// What an event said of it, while it waits.
    event: Option<Arc<Reason>>,
    /// What the table was told last.
    told: Option<Told>,
    /// And when that runs out, if it runs.
    stop: Option<Timestamp>,
}

/// A word without what its pod never changes: there may be a hundred thousand of them.
#[derive(Debug, PartialEq)]
enum Told {
    Ran(Option<IpAddr>),
    Was(Progress),
    Ended,
}

/// What the table is to be told of one pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    /// It runs.
    Saw(SessionId, Observed),
    /// It is there and does not run.
    Pending(SessionId, InstanceUid, Progress),
    /// It will be stopped at this time, or will not be any more.
    Announced(SessionId, InstanceUid, Option<Timestamp>),
    /// It is being deleted.
    Ending(SessionId, InstanceUid),
    /// It is gone.
    Gone(SessionId, InstanceUid),
    /// It ended for good, for this reason.
    Lost(SessionId, Arc<Reason>),
}

impl Word {
    fn told(&self) -> Told {
        match self {
            Self::Saw(_, Observed { addresses, .. }) => {
                Told::Ran(addresses.first().map(SocketAddr::ip))
            }
            Self::Pending(_, _, progress) => Told::Was(progress.clone()),
            Self::Announced(..) | Self::Ending(..) | Self::Gone(..) | Self::Lost(..) => Told::Ended,
        }
    }
}

impl Book {
    /// A list begins: what it does not name is gone.
    pub(super) fn begin(&mut self) {
        self.unseen = Some(self.pods.values().map(|known| claim(&known.view)).collect());
    }

    /// The list is whole.
    pub(super) fn end(&mut self) -> Vec<Word> {
        let gone = self.unseen.take().unwrap_or_default();
        let gone = gone.into_iter();
        gone.flat_map(|(_, uid)| self.forget(InstanceUid(uuid::Uuid::from_u128(uid))))
            .collect()
    }

    /// A pod is like this now.
    pub(super) fn learn(&mut self, view: View) -> Vec<Word> {
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(&claim(&view));
        }
        if let State::Over(reason) = &view.state {
            let mut words = self.forget(view.uid);
            // Of a release, its own Deployment has made another by now.
            let reason = reason.clone().filter(|_| !view.is_helms);
            words.extend(reason.map(|reason| Word::Lost(view.id, reason)));
            return words;
        }
        let uid = view.uid;
        let mut touched = vec![uid];
        let before = self.pods.get(&uid).map(|known| known.view.clone());
        let claims = |view: &View| view.address.filter(|_| view.state != State::Ends);
        let (old, new) = (before.as_ref().and_then(claims), claims(&view));
        if old != new {
            touched.extend(
                old.into_iter()
                    .flat_map(|address| self.release(address, &view)),
            );
            if let Some(address) = new {
                let one = || Vec::with_capacity(1);
                let all = self.addresses.entry(address).or_insert_with(one);
                if let Err(at) = all.binary_search(&claim(&view)) {
                    all.insert(at, claim(&view));
                }
                touched.extend(
                    all.iter()
                        .map(|(_, uid)| InstanceUid(uuid::Uuid::from_u128(*uid))),
                );
            }
        }
        match self.pods.get_mut(&uid) {
            Some(known) => {
                known
                    .event
                    .take_if(|_| !matches!(view.state, State::Waits(_)));
                known.view = view;
            }
            None => {
                let known = Known {
                    view,
                    event: None,
                    told: None,
                    stop: None,
                };
                self.pods.insert(uid, known);
            }
        }
        touched.into_iter().flat_map(|uid| self.tell(uid)).collect()
    }

    /// A pod is gone.
    pub(super) fn forget(&mut self, uid: InstanceUid) -> Vec<Word> {
        let Some(known) = self.pods.remove(&uid) else {
            return vec![];
        };
        let mut words = vec![Word::Gone(known.view.id, uid)];
        if let Some(address) = known.view.address {
            let others = self.release(address, &known.view);
            words.extend(others.into_iter().flat_map(|uid| self.tell(uid)));
        }
        words
    }

    /// A pod was asked to end; the watch will say that it does, or that it is gone.
    pub(super) fn ends(&mut self, uid: InstanceUid) -> Vec<Word> {
        let known = self.pods.get(&uid).map(|known| known.view.clone());
        known.map_or_else(Vec::new, |mut view| {
            view.state = State::Ends;
            self.learn(view)
        })
    }

    /// An event says why a pod that waits does so.
    pub(super) fn heard(&mut self, uid: InstanceUid, reason: Reason) -> Option<Word> {
        let known = self.pods.get_mut(&uid)?;
        known.event = Some(Arc::new(reason));
        self.tell_state(uid)
    }

    /// Whether the watch has shown this pod.
    pub(super) fn knows(&self, uid: InstanceUid) -> bool {
        self.pods.contains_key(&uid)
    }

    /// Whether a chart's release keeps the session's pod.
    pub(super) fn is_helms(&self, id: SessionId) -> bool {
        let mut pods = self.pods.values().filter(|known| known.view.id == id);
        pods.any(|known| known.view.is_helms)
    }

    /// The pods that wait, whether or not an event said why.
    pub(super) fn waiting(&self) -> Vec<View> {
        let waiting = self
            .pods
            .values()
            .filter(|known| matches!(known.view.state, State::Waits(_)));
        waiting.map(|known| known.view.clone()).collect()
    }

    /// Takes an address from a pod; returns the others that have it.
    fn release(&mut self, address: IpAddr, view: &View) -> Vec<InstanceUid> {
        let Some(all) = self.addresses.get_mut(&address) else {
            return vec![];
        };
        all.retain(|one| *one != claim(view));
        let left = all
            .iter()
            .map(|(_, uid)| InstanceUid(uuid::Uuid::from_u128(*uid)))
            .collect();
        if all.is_empty() {
            self.addresses.remove(&address);
        }
        left
    }

    /// When a pod that runs will be stopped.
    fn announce(&mut self, uid: InstanceUid) -> Option<Word> {
        let known = self.pods.get_mut(&uid)?;
        let stop = known.view.stop;
        if !matches!(known.told, Some(Told::Ran(_))) || known.stop == stop {
            return None;
        }
        known.stop = stop;
        Some(Word::Announced(known.view.id, uid, stop))
    }

    /// What the table is to be told of a pod, as far as it has not been told so.
    fn tell(&mut self, uid: InstanceUid) -> impl Iterator<Item = Word> + use<> {
        let state = self.tell_state(uid);
        state.into_iter().chain(self.announce(uid))
    }

    fn tell_state(&mut self, uid: InstanceUid) -> Option<Word> {
        let known = self.pods.get(&uid)?;
        let word = self.word(known);
        let known = self.pods.get_mut(&uid)?;
        let told = word.told();
        if known.told.as_ref() == Some(&told) {
            return None;
        }
        // Of a pod that never ran, the table knows that it waits.
        let ran = matches!(known.told, Some(Told::Ran(_)));
        known.told = Some(told);
        // What was announced of an instance is not known of another.
        known.stop = None;
        Some(match word {
            Word::Pending(id, uid, Progress::Ends) if ran => Word::Ending(id, uid),
            word => word,
        })
    }

    fn word(&self, known: &Known) -> Word {
        let View {
            id,
            uid,
            address,
            ports,
            state,
            profile,
            is_helms,
            made,
            ..
        } = &known.view;
        let (id, uid) = (*id, *uid);
        let pending = |progress| Word::Pending(id, uid, progress);
        match (state, address) {
            (State::Runs, Some(address)) if self.is_alone(address) => {
                let addresses = ports.iter().map(|port| SocketAddr::new(*address, *port));
                let observed = Observed {
                    uid,
                    addresses: addresses.collect(),
                    profile: profile.clone(),
                    // What a chart's release keeps is not ours to stop.
                    made: made.filter(|_| !is_helms),
                };
                Word::Saw(id, observed)
            }
            (State::Runs, _) => pending(Progress::Waits(Stage::Port)),
            (State::Waits(stage), _) => match &known.event {
                Some(reason) => pending(Progress::Stuck(Arc::clone(reason))),
                None => pending(Progress::Waits(*stage)),
            },
            (State::Stuck(reason), _) => pending(Progress::Stuck(Arc::clone(reason))),
            (State::Ends | State::Over(_), _) => pending(Progress::Ends),
        }
    }

    fn is_alone(&self, address: &IpAddr) -> bool {
        self.addresses.get(address).is_none_or(|all| all.len() == 1)
    }
}

fn claim(view: &View) -> Claim {
    (view.id, view.uid.0.as_u128())
}

#[cfg(test)]
mod tests;
