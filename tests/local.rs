//! The local spawner with real processes: what it starts, how it ends it, and what it says of services that fail.

mod bench;
mod failures;
mod life;
mod supervisor;
