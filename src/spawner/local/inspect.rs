//! Local sessions as people are told of them.

use futures_util::{FutureExt, future::BoxFuture};

use super::{LocalSpawner, record::Record};
use crate::{
    activator::{Inspect, Listed, Seen, SpawnError},
    session::{Found, SessionId},
};

impl Inspect for LocalSpawner {
    fn list(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Listed>, SpawnError>> {
        let listed = self.disk(move |folder| {
            let ids = folder
                .sessions()?
                .into_iter()
                .filter(|id| after.is_none_or(|after| *id > after));
            let mut listed = Vec::new();
            for id in ids {
                if listed.len() == limit {
                    break;
                }
                if let Some(record) = folder.read(id)? {
                    listed.push(Listed {
                        id,
                        seen: seen(Some(&record)),
                        plan: record.plan,
                    });
                }
            }
            Ok(listed)
        });
        listed.boxed()
    }

    fn find(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Listed>, SpawnError>> {
        async move {
            let record = self.disk(move |folder| folder.read(id)).await?;
            Ok(record.map(|record| Listed {
                id,
                seen: seen(Some(&record)),
                plan: record.plan,
            }))
        }
        .boxed()
    }

    fn tail(&self, id: SessionId) -> BoxFuture<'_, Result<Vec<String>, SpawnError>> {
        async move {
            let session = self.session(id);
            let session = session.lock().await;
            let run = session.0.as_ref();
            Ok(run.map_or_else(Vec::new, |run| {
                run.processes.iter().map(|one| one.output.tail()).collect()
            }))
        }
        .boxed()
    }
}

pub(super) fn seen(record: Option<&Record>) -> Seen {
    let found = match record {
        None => Found::Absent,
        Some(record) if record.run => Found::Vanished,
        Some(_) => Found::Stopped,
    };
    Seen {
        found,
        used: record.and_then(|record| record.used),
    }
}
