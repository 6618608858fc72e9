//! What people are shown of local sessions.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{
    LocalSpawner, internal,
    record::{self, Record},
};
use crate::{
    activator::{Inspect, Listed, SpawnError},
    session::SessionId,
};

impl Inspect for LocalSpawner {
    fn list(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Listed>, SpawnError>> {
        let host = Arc::clone(&self.host);
        let listed = self
            .host
            .drain
            .spawn_blocking(move || record::list(&host.folder, after, limit));
        Box::pin(async { Ok(listed.await.map_err(|_| internal())??) })
    }

    fn find(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Listed>, SpawnError>> {
        let listed = move |folder: &_| Record::listed(folder, id);
        Box::pin(self.host.on_disk(id, listed))
    }

    fn tail(&self, id: SessionId) -> BoxFuture<'_, Result<Vec<String>, SpawnError>> {
        let count = self.host.services.count();
        let session = self.host.lock_sessions().get(&id).cloned();
        let tails = session.map_or_else(
            || vec![String::new(); count],
            |session| session.outputs.tails(count),
        );
        Box::pin(std::future::ready(Ok(tails)))
    }
}
