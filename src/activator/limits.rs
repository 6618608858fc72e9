//! How many sessions there may be, and how often they may be started.
//!
//! What is there is counted by what the watch says, which every replica hears, and not by what this one remembers. A
//! start of another replica is heard of when its pod is there: so near a limit a replica has one start at a time that
//! the watch has not shown yet. Several replicas overshoot a limit by one each, then, and no more.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{config::SpawnConfig, fact::Fact, table::Table, tally::Count};
use crate::session::{Limit, SessionId, Stage};

/// Within which time starts are counted.
const MINUTE: Duration = Duration::from_secs(60);
/// How near a limit is, in starts that a replica may have under way: as many as a few other replicas may have, too.
const NEAR: usize = 4;
/// Of how many users or addresses starts are remembered. Past it all are forgotten: that many in a minute are no
/// person's doing, and are bounded by the other limits.
const CAPACITY: usize = 65_536;

/// The limits of one replica's starts.
pub(super) struct Limits {
    sessions: usize,
    sessions_per_user: usize,
    /// As many starts as may be under way.
    concurrent: usize,
    users: Rate<Arc<str>>,
    clients: Rate<IpAddr>,
    /// Held from a look at the counts to the fact that changes them.
    alone: Mutex<()>,
}

impl Limits {
    pub(super) fn new(config: &SpawnConfig) -> Self {
        let limits = config.limits;
        Self {
            sessions: limits.sessions,
            sessions_per_user: limits.sessions_per_user,
            concurrent: config.concurrent,
            users: Rate::new(limits.starts_per_user),
            clients: Rate::new(limits.starts_per_client),
            alone: Mutex::default(),
        }
    }

    /// Counts a start that this client asks for.
    ///
    /// # Errors
    /// If there were as many within a minute as may be.
    pub(super) fn ask(&self, client: IpAddr) -> Result<(), Limit> {
        let most = self.clients.most;
        let taken = self.clients.take(network(client), Instant::now());
        taken.map_err(|wait| Limit::ClientStarts { most, wait })
    }

    /// Lets a start wait for its turn, and counts it to this user. `by_client`: it was asked for by somebody whose
    /// starts are counted.
    ///
    /// # Errors
    /// If with all those that wait there would be too many sessions, or the user has had too many started.
    pub(super) fn enter(
        &self,
        table: &Table,
        id: SessionId,
        user: &Arc<str>,
        by_client: bool,
    ) -> Result<(), Limit> {
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.is_there(id) {
            let (all, own) = table.counts(user);
            self.fits(all.begun() + all.queued, own.begun() + own.queued)?;
        }
        if by_client {
            let most = self.users.most;
            let taken = self.users.take(Arc::clone(user), Instant::now());
            taken.map_err(|wait| Limit::UserStarts { most, wait })?;
        }
        table.apply(Fact::Owner(id, Arc::clone(user)));
        Ok(())
    }

    /// Lets a start whose turn it is go on to this stage. Waits while the limit is near and the watch has not shown
    /// what this replica has started before.
    ///
    /// # Errors
    /// If there are too many sessions meanwhile.
    pub(super) async fn admit(
        &self,
        table: &Table,
        (id, stage): (SessionId, Stage),
        user: &str,
    ) -> Result<(), Limit> {
        loop {
            let changed = table.tallied.notified();
            if self.pass(table, (id, stage), user)? {
                return Ok(());
            }
            changed.await;
        }
    }

    fn pass(
        &self,
        table: &Table,
        (id, stage): (SessionId, Stage),
        user: &str,
    ) -> Result<bool, Limit> {
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.is_there(id) {
            let (all, own) = table.counts(user);
            self.fits(all.begun(), own.begun())?;
            let waits = |count: Count, most: usize| {
                count.starting > 0 && most - count.begun() <= NEAR * self.concurrent
            };
            if waits(all, self.sessions) || waits(own, self.sessions_per_user) {
                return Ok(false);
            }
        }
        table.apply(Fact::Stage(id, stage));
        Ok(true)
    }

    /// Whether there may be one more, in all and of the user's.
    fn fits(&self, all: usize, own: usize) -> Result<(), Limit> {
        let most = self.sessions_per_user;
        if own >= most {
            return Err(Limit::UserSessions { most });
        }
        let most = self.sessions;
        if all >= most {
            return Err(Limit::Sessions { most });
        }
        Ok(())
    }
}

/// Who is one client: an address of IPv4, a network of IPv6, of which every machine has a whole one (RFC 4291, section
/// 2.5.4).
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
    }
}

/// So many within a minute for each key: within any minute, not by the clock.
struct Rate<K> {
    most: usize,
    taken: Mutex<HashMap<K, VecDeque<Instant>>>,
}

impl<K: Eq + Hash> Rate<K> {
    fn new(most: usize) -> Self {
        Self {
            most,
            taken: Mutex::default(),
        }
    }

    /// Takes one, or says how long it is until there is one.
    fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        if self.most == usize::MAX {
            return Ok(());
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= CAPACITY && !taken.contains_key(&key) {
            taken.retain(|_, times| times.back().is_some_and(|last| now < *last + MINUTE));
            if taken.len() >= CAPACITY {
                taken.clear();
            }
        }
        let times = taken.entry(key).or_default();
        while times.front().is_some_and(|first| *first + MINUTE <= now) {
            times.pop_front();
        }
        match times.front() {
            Some(first) if times.len() >= self.most => Err(*first + MINUTE - now),
            _ => {
                times.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
