//! The vocabulary: what a session, a route, a kind of request and a state are.
//!
//! Everything else speaks in these types. Nothing here does I/O, and nothing here knows of HTTP connections,
//! Kubernetes or configuration files.

pub mod clock;
mod id;
mod intent;
mod phase;
mod plan;
mod reason;
mod route;
mod service;

pub use id::{SessionId, SessionIdError};
pub use intent::{Grant, Intent};
pub use phase::{Failure, Found, Phase, Stage};
pub use plan::Plan;
pub use reason::{ExitStatus, Reason};
pub use route::{Action, Route, RouteError};
pub use service::{
    HostHeader, OriginHeader, Prefix, Service, ServiceSpec, Services, ServicesError,
};
