//! The vocabulary: what a session, a route, a kind of request and a state are.
//!
//! Everything else speaks in these types. Nothing here does I/O, and nothing here knows of HTTP connections,
//! Kubernetes or configuration files.

mod activity;
pub mod clock;
mod course;
mod id;
mod intent;
mod limit;
mod phase;
mod plan;
mod reason;
mod route;
mod service;
mod stop;

pub use activity::{Activity, InputRule, Spell};
pub use course::Course;
pub use id::{SessionId, SessionIdError};
pub use intent::{Grant, Intent};
pub use limit::Limit;
pub use phase::{Failure, Found, Phase, Stage};
pub use plan::Plan;
pub use reason::{ExitStatus, Reason};
pub use route::{Action, Route, RouteError};
pub use service::{
    HostHeader, OriginHeader, Prefix, Service, ServiceSpec, Services, ServicesError,
};
pub use stop::{Because, Stop};
