//! What runs sessions. Each spawner implements the traits that `activator` defines, and knows nothing of requests.

pub mod kubernetes;
pub mod local;
