//! Section `resolver` of the configuration.

use std::{path::PathBuf, time::Duration};

use http::{
    Uri,
    uri::{PathAndQuery, Scheme},
};

use crate::settings::Section;

/// Where the platform is asked what a new session is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverConfig {
    /// What the session's id is put behind; `None`: nobody is asked.
    pub url: Option<Uri>,
    /// The authorities that an `https` address is trusted by, in PEM.
    pub ca: PathBuf,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long an answer holds.
    pub cache: Duration,
    /// What becomes of a start without an answer.
    pub failure: OnFailure,
}

/// What becomes of a start when the platform does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It fails.
    Refuse,
    /// The session is made by the defaults of the configuration.
    Defaults,
}

impl ResolverConfig {
    /// Reads the section.
    #[must_use]
    pub fn read(section: &mut Section<'_>) -> Self {
        let failures = [
            ("refuse", OnFailure::Refuse),
            ("defaults", OnFailure::Defaults),
        ];
        let expected = "an address such as http://platform.internal/sessions, without a query";
        let url = section.parsed("url", expected, |text| {
            if text.is_empty() {
                return Some(None);
            }
            let url: Uri = text.parse().ok()?;
            let known = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&url.scheme());
            let plain = url.path_and_query().and_then(PathAndQuery::query).is_none();
            (known && plain && url.host().is_some()).then_some(Some(url))
        });
        let config = Self {
            url: url.flatten(),
            ca: section.string("ca").into(),
            timeout: section.duration("timeout"),
            cache: section.duration("cache"),
            failure: section.choice("failure", &failures),
        };
        section.check(&["timeout"], !config.timeout.is_zero(), || {
            "no answer comes in no time; expected a time such as 2s".to_owned()
        });
        config
    }
}
