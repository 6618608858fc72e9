//! What a session is made from.

use serde::{Deserialize, Serialize};

/// What a session is made from, decided before anything of it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// The platform's id of the project (`project.id`).
    pub project: String,
    /// The platform's id of the user the session belongs to (`user.id`).
    pub user: String,
}
