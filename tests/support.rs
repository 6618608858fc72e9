//! The harness: a whole gateway on free ports, sessions that do as told, services and clients on real sockets.
//!
//! ```ignore
//! let gateway = Gateway::start();
//! let reply = gateway.get(&format!("/{id}/preview/"), &[]).await;
//! ```

pub mod client;
pub mod cluster;
mod gateway;
pub mod kept;
pub mod kit;
pub mod processes;
pub mod serve;
pub mod service;
pub mod table;
pub mod tls;
pub mod told;

use std::time::Duration;

pub use client::{Reply, Sample, raw, sample, samples};
pub use gateway::Gateway;
pub use kept::{Kept, Way};
pub use service::Service;

/// Ten times what anything here should take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Whether the counts are the long ones (`tests/run --long`).
pub fn long() -> bool {
    std::env::var_os("SESSION_GATEWAY_TEST_LONG").is_some()
}

/// Waits until something is true, asking again and again; fails with its name after the deadline.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let asked = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, asked).await.is_err() {
        panic!("not so after {DEADLINE:?}: {what}");
    }
}
