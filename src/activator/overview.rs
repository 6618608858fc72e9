//! A session as people and programs are told of it: all services side by side.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::{Activator, Seen, Slot, SpawnError, phase};
use crate::session::{Phase, Service, Services, SessionId, Stop, clock};

/// How long a page waits for the last lines of its services.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Where a session and each of its services stand.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Which session.
    pub id: SessionId,
    /// In one word, as a whole.
    pub state: &'static str,
    /// Each service in the order of the configuration, with its address while there is one.
    pub services: Vec<(Service, Phase, Option<SocketAddr>)>,
    /// When it was last used, if that is known.
    pub used: Option<Timestamp>,
    /// The next stop that will come by itself, if one is known to.
    pub stop: Option<Stop>,
}

impl Activator {
    /// Where a session stands, from the table and its record.
    ///
    /// # Errors
    /// If nothing runs here and the record cannot be read.
    pub async fn overview(
        self: &Arc<Self>,
        id: SessionId,
        services: &Services,
    ) -> Result<Overview, SpawnError> {
        let seen = self.look(id).await?;
        Ok(self.overview_of(id, &seen, services))
    }

    /// The same, where its record has been read already.
    #[must_use]
    pub fn overview_of(&self, id: SessionId, seen: &Seen, services: &Services) -> Overview {
        let (slot, now) = (self.table().slot(id), Instant::now());
        let stands = |service| phase(&slot, service, now).unwrap_or(Phase::Idle(seen.found));
        let phases = services.iter().map(|(service, _)| stands(service));
        Overview::of(id, &slot, phases.collect(), seen.used)
    }
}

impl Activator {
    /// What each service of a session said last, a few short lines; nothing where nothing of it is there, or where it
    /// does not come at once: it is for the next one who asks, then.
    pub async fn last_lines(self: &Arc<Self>, id: SessionId) -> Arc<[String]> {
        if !self.table().slot(id).is_there() {
            return Arc::default();
        }
        let activator = Arc::clone(self);
        // On control, and to its end.
        let read = async move { activator.records.lines(id).await };
        let read = self.drain.spawn("lines", read);
        match timeout(AT_ONCE, read).await {
            Ok(Ok(Ok(lines))) => lines,
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => Arc::default(),
        }
    }

    /// Whether all services of a session write to one output.
    #[must_use]
    pub fn has_one_output(&self) -> bool {
        self.inspect.has_one_output()
    }
}

impl Overview {
    /// Puts together what is known of a session; `phases` is by [`Service::index`], `used` what its record says.
    pub(super) fn of(
        id: SessionId,
        slot: &Slot,
        phases: Vec<Phase>,
        used: Option<Timestamp>,
    ) -> Self {
        let instance = slot.instance.as_ref();
        let state = super::overall(&phases);
        let services = Service::first(phases.len()).zip(phases);
        let services = services.map(|(service, phase)| {
            let address = instance.map(|instance| instance.address(service));
            (service, phase, address)
        });
        Self {
            id,
            state,
            services: services.collect(),
            used: instance
                .and_then(|instance| instance.last_used())
                .map(clock::at)
                .or(used),
            stop: slot.next_stop(),
        }
    }

    /// Whether it tells the same as the other, but for when the session was used.
    pub(super) fn says_what(&self, other: &Self) -> bool {
        let phases = |one: &Self| {
            one.services
                .iter()
                .map(|(_, phase, _)| phase.clone())
                .collect()
        };
        let (own, others): (Vec<_>, Vec<_>) = (phases(self), phases(other));
        (self.stop, own) == (other.stop, others)
    }
}
