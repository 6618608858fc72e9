//! Holds requests while a session starts.

mod instance;
mod phase;
mod spawner;
mod table;

pub use instance::{Instance, InstanceUid, Lease, TunnelGuard};
pub use phase::{Meanwhile, Trigger, Verdict, phase, verdict};
pub use spawner::{DefaultPlan, Inspect, Listed, Resolver, Seen, SpawnError, Spawner};
pub use table::{Broken, Fact, Facts, Slot, Table, ToProbe, Waiters};
