//! The durable record of a session: annotations of its account. It outlives the pod, and any replica reads it.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ServiceAccount, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    names::{
        HELM, KEEP, MANAGED_BY, PROFILE, PROJECT, REMOVED, RUNNING, STATE, STOPPED, USED, USER,
        UUID,
    },
    objects::{annotation, label},
};
use crate::{
    activator::{Listed, Seen},
    session::{Found, Plan, clock},
};

/// A start does not record a use that is recorded already, by another replica that starts the session as well.
const LATELY: Duration = Duration::from_secs(60);

/// What the record says. What Helm installed should always run: its Deployment sees to it.
pub(super) fn seen(account: &ServiceAccount) -> Seen {
    let meta = &account.metadata;
    let found = match annotation(meta, STATE) {
        Some(STOPPED) => Found::Stopped,
        Some(REMOVED) => Found::Absent,
        Some(_) => Found::Vanished,
        None if is_helms(meta) => Found::Vanished,
        // Made, and not yet said to run: a start broke off before it had made anything that runs.
        None => Found::Absent,
    };
    let used = annotation(meta, USED).and_then(|time| time.parse::<Timestamp>().ok());
    Seen { found, used }
}

/// The session in a list for people.
pub(super) fn listed(account: &ServiceAccount) -> Option<Listed> {
    let meta = &account.metadata;
    let id = |key| {
        annotation(meta, key)
            .or(label(meta, key))
            .unwrap_or_default()
            .to_owned()
    };
    Some(Listed {
        id: label(meta, UUID)?.parse().ok()?,
        seen: seen(account),
        made: meta.creation_timestamp.as_ref().map(|time| time.0),
        // What is a chart's is not ours to remove.
        is_kept: is_kept(meta) || is_helms(meta),
        plan: Plan {
            project: id(PROJECT),
            user: id(USER),
            profile: label(meta, PROFILE)
                .unwrap_or(Plan::DEFAULT_PROFILE)
                .to_owned(),
        },
    })
}

/// The platform's id of the user whose session the object is of.
pub(super) fn user(meta: &ObjectMeta) -> Option<&str> {
    annotation(meta, USER).or(label(meta, USER))
}

/// Whether a chart's release made the object.
pub(super) fn is_helms(meta: &ObjectMeta) -> bool {
    label(meta, MANAGED_BY) == Some(HELM)
}

/// Whether somebody wants what the object holds kept, used or not.
pub(super) fn is_kept(meta: &ObjectMeta) -> bool {
    label(meta, KEEP).is_some_and(|value| value != "false")
}

/// Whether it says that the session runs, and was used a moment ago.
pub(super) fn is_started(account: &ServiceAccount) -> bool {
    let lately = |used| clock::since(used) < LATELY;
    annotation(&account.metadata, STATE) == Some(RUNNING) && seen(account).used.is_some_and(lately)
}

/// The annotations of a session that is started now. That is a use: its pod may be lost before it is used again, and
/// nobody must take it for one that is not wanted any more.
pub(super) fn started() -> BTreeMap<String, String> {
    let now = clock::now().to_string();
    [(STATE, RUNNING), (USED, &now)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The patch that sets annotations of an account.
pub(super) fn annotate(annotations: impl Serialize) -> Value {
    json!({ "metadata": { "annotations": annotations } })
}
