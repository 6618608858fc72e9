//! A session as people and programs are told of it: all services side by side.

use std::{net::SocketAddr, sync::Arc};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Activator, SpawnError, phase};
use crate::session::{Phase, Service, Services, SessionId, clock};

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
        let slot = self.table().slot(id);
        let now = Instant::now();
        let instance = slot.instance.as_ref();
        let stands = |service| phase(&slot, service, now).unwrap_or(Phase::Idle(seen.found));
        let services: Vec<_> = services
            .iter()
            .map(|(service, _)| {
                (
                    service,
                    stands(service),
                    instance.map(|one| one.address(service)),
                )
            })
            .collect();
        let phases: Vec<Phase> = services.iter().map(|(_, phase, _)| phase.clone()).collect();
        let used = instance
            .and_then(|instance| instance.last_used())
            .map(clock::at)
            .or(seen.used);
        Ok(Overview {
            id,
            state: super::overall(&phases),
            services,
            used,
        })
    }
}
