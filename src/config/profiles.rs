//! Section `profiles` and key `profile` of the configuration. They are read here, since a profile is laid over the
//! settings of several modules.

use std::collections::{BTreeMap, BTreeSet};

use super::services::is_label;
use crate::activator::IdleConfig;
use crate::settings::Section;
use crate::spawner::kubernetes::KubernetesConfig;
use crate::spawner::local::{Command, LocalConfig};

/// What a profile makes of the settings.
pub(super) struct Profile {
    pub(super) kubernetes: Option<KubernetesConfig>,
    pub(super) local: BTreeMap<String, Command>,
    pub(super) idle: Option<IdleConfig>,
}

/// Reads all profiles from the whole configuration.
pub(super) fn read(root: &mut Section<'_>, base: &KubernetesConfig) -> Vec<(String, Profile)> {
    root.variants("profiles", |name, merged| {
        merged.check(&[], is_label(name), || {
            format!("expected a name of up to 30 lower-case letters, digits and hyphens, such as large; found {name:?}")
        });
        let profile = Profile {
            kubernetes: base.profile(merged),
            local: LocalConfig::profile(merged),
            idle: merged.section("idle", IdleConfig::read),
        };
        (name.to_owned(), profile)
    })
}

/// Checks that the profile of new sessions is one of those there are.
pub(super) fn check(root: &mut Section<'_>, profile: &str, all: &BTreeSet<String>) {
    root.check(&["profile"], all.contains(profile), || {
        let names: Vec<&str> = all.iter().map(String::as_str).collect();
        format!(
            "no such profile; expected default or one of those in profiles: {}",
            names.join(", ")
        )
    });
}
