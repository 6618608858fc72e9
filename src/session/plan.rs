//! What a session is made from.

use serde::{Deserialize, Serialize};

/// What a session is made from, decided before anything of it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// The platform's id of the project (`project.id`).
    pub project: String,
    /// The platform's id of the user the session belongs to (`user.id`).
    pub user: String,
    /// Which of the profiles it is made by (`profiles`).
    #[serde(default = "Plan::default_profile")]
    pub profile: String,
}

impl Plan {
    /// The profile that is always there: the settings of the configuration without those of any profile.
    pub const DEFAULT_PROFILE: &str = "default";

    /// The same, for what names none.
    #[must_use]
    pub fn default_profile() -> String {
        Self::DEFAULT_PROFILE.to_owned()
    }
}
