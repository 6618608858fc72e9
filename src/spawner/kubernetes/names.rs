//! What the objects of a session are called and marked with. The names are those of the chart that deployed sessions
//! before.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::session::{Plan, SessionId};

/// The label that says whose object it is.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value on what this program makes, and the field manager of all that it applies.
pub(super) const MANAGER: &str = "session-gateway";
/// Its value on what Helm makes.
pub(super) const HELM: &str = "Helm";
/// The label with the session's id; what has it is found by the watch and the lists.
pub(super) const UUID: &str = "dev-session/uuid";
/// The label with the platform's id of the project; and the annotation, if the id is no label value.
pub(super) const PROJECT: &str = "dev-session/project-id";
/// The label with the platform's id of the user; and the annotation, if the id is no label value.
pub(super) const USER: &str = "dev-session/user-id";
/// The label with the name of the profile, unless that is the default one.
pub(super) const PROFILE: &str = "dev-session/profile";
/// The annotation of the account that says whether the session should run.
pub(super) const STATE: &str = "dev-session/state";
/// The annotation of the account with the time of the last use.
pub(super) const USED: &str = "dev-session/used";
/// The annotation of the pod with the time at which it will be stopped, unless it is used before.
pub(super) const STOP: &str = "dev-session/stop-at";
/// The label, of the namespace or the account, that keeps a session from being removed for want of use.
pub(super) const KEEP: &str = "dev-session/keep";
/// The annotation with the hash of the plan: on the account once all objects of it are there, on the pod at once.
pub(super) const PLAN: &str = "dev-session/plan";

/// The value of `STATE` of a session that should run.
pub(super) const RUNNING: &str = "running";
/// The value of `STATE` of a session that was stopped on purpose.
pub(super) const STOPPED: &str = "stopped";
/// The value of `STATE` of a session that is being removed with all that is kept of it.
pub(super) const REMOVED: &str = "removed";

/// What stands for the session's id in the setting `namespace`.
pub(super) const PLACEHOLDER: &str = "{uuid}";

/// In which namespace each session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceTemplate(pub String);

impl NamespaceTemplate {
    /// Whether all sessions share one namespace, which the operator makes and keeps.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !self.0.contains(PLACEHOLDER)
    }

    /// The namespace of a session.
    #[must_use]
    pub fn of(&self, id: SessionId) -> String {
        self.0.replace(PLACEHOLDER, &id.to_string())
    }
}

/// The name of the account, the policies and the pod; those of the others begin with it.
pub(super) fn base(id: SessionId) -> String {
    format!("dev-session-{id}")
}

/// The name of the claim.
pub(super) fn claim(id: SessionId) -> String {
    format!("{}-workspace", base(id))
}

/// The name of a Service: of the main entry, `lb`, or of one service of the session.
pub(super) fn service(id: SessionId, suffix: &str) -> String {
    format!("{}-{suffix}", base(id))
}

/// The longest name of a service of a session: a Service's name has 63 characters at most (RFC 1035, section 2.3.1).
pub(super) const LONGEST_SERVICE: usize = 63 - "dev-session-".len() - SessionId::LEN - 1;

/// The metadata of an object of a session.
pub(super) fn metadata(id: SessionId, plan: &Plan, name: String, namespace: &str) -> ObjectMeta {
    let mut meta = ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    let labels = meta.labels.get_or_insert_default();
    for (key, value) in [
        ("app.kubernetes.io/name", "dev-session".to_owned()),
        ("app.kubernetes.io/instance", base(id)),
        (MANAGED_BY, MANAGER.to_owned()),
        (UUID, id.to_string()),
    ] {
        labels.insert(key.to_owned(), value);
    }
    if plan.profile != Plan::DEFAULT_PROFILE {
        labels.insert(PROFILE.to_owned(), plan.profile.clone());
    }
    for (key, value) in [(PROJECT, &plan.project), (USER, &plan.user)] {
        if is_label_value(value) {
            labels.insert(key.to_owned(), value.clone());
        } else {
            labels.insert(key.to_owned(), hash(value.as_bytes()));
            let annotations = meta.annotations.get_or_insert_default();
            annotations.insert(key.to_owned(), value.clone());
        }
    }
    meta
}

/// Whether it may be the value of a label: up to 63 characters, letters and digits at both ends.
fn is_label_value(text: &str) -> bool {
    let ends = |end: Option<char>| end.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A short name of these bytes, the same in every release of this program: FNV-1a of 64 bits, in hexadecimal.
pub(super) fn hash(bytes: &[u8]) -> String {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(user: &str) -> Plan {
        Plan {
            project: "7".to_owned(),
            user: user.to_owned(),
            profile: Plan::default_profile(),
        }
    }

    #[test]
    fn an_id_that_is_no_label_value_is_hashed_in_the_label_and_whole_in_the_annotation() {
        let id = SessionId::random();
        for (user, hashed) in [
            ("42", false),
            ("a.b-c_D", false),
            ("-a", true),
            ("a@b.example", true),
            ("", true),
        ] {
            let meta = metadata(id, &plan(user), base(id), "n");
            let label = &meta.labels.expect("labels")[USER];
            let annotation = meta.annotations.and_then(|mut all| all.remove(USER));
            assert_eq!(label != user, hashed, "{user}");
            assert!(is_label_value(label), "{user}");
            assert_eq!(annotation.as_deref(), hashed.then_some(user));
        }
        let long = "a".repeat(64);
        assert_ne!(
            metadata(id, &plan(&long), base(id), "n")
                .labels
                .expect("labels")[USER],
            long
        );
    }

    /// Test vectors of FNV-1a (draft-eastlake-fnv).
    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(hash(b""), "cbf29ce484222325");
        assert_eq!(hash(b"foobar"), "85944171f73967e8");
    }

    #[test]
    fn a_namespace_is_shared_unless_its_name_has_the_id() {
        let id = SessionId::random();
        let own = NamespaceTemplate("dev-{uuid}".to_owned());
        assert!(!own.is_shared());
        assert_eq!(own.of(id), format!("dev-{id}"));
        let shared = NamespaceTemplate("sessions".to_owned());
        assert!(shared.is_shared());
        assert_eq!(shared.of(id), "sessions");
    }
}
