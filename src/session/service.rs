//! The services of a session: which there are, and how each one's traffic is addressed.

use std::sync::Arc;

use super::Activity;

/// One of the configured services, by its place in [`Services`]. Small and `Copy`: it indexes per-service state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service(u8);

/// How one service is addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name: a label of lower-case letters, digits and hyphens.
    pub name: String,
    /// The port it listens on inside its session. A local session gets a free one instead.
    pub port: u16,
    /// The path it is reached at below the session's own, with its slash: `/preview`.
    pub path: String,
    /// What becomes of that prefix on the way to the service.
    pub prefix: Prefix,
    /// Which `Host` the service sees.
    pub host: HostHeader,
    /// Which `Origin` the service sees.
    pub origin: OriginHeader,
    /// What counts as use of it.
    pub activity: Activity,
}

#[cfg(test)]
impl ServiceSpec {
    /// One for tests: of this name, at the path of its name.
    pub(crate) fn example(name: &str, prefix: Prefix) -> Self {
        Self {
            name: name.to_owned(),
            port: 3000,
            path: format!("/{name}"),
            prefix,
            host: HostHeader::Public,
            origin: OriginHeader::Pass,
            activity: Activity::Requests,
        }
    }
}

/// What becomes of `/<uuid>/<service>` on the way to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// It is passed on: the service has it as its base path.
    Keep,
    /// It is taken off, and told in `X-Forwarded-Prefix`.
    Strip,
}

/// Which `Host` a service sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHeader {
    /// The one the client sent.
    Public,
    /// `localhost:<port>`, which development servers accept.
    Localhost,
}

/// Which `Origin` a service sees on a websocket's handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginHeader {
    /// The one the client sent.
    Pass,
    /// That of the `Host` the service sees, once the gateway's own check has passed.
    Rewrite,
}

/// All services of every session, in the order of the configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Services(Arc<[ServiceSpec]>);

/// The services cannot be told apart, or are too many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServicesError {
    /// None at all.
    #[error("no service is configured: a session needs at least one")]
    Empty,
    /// More than [`Services::MAX`].
    #[error("{0} services are configured: at most {max} are possible", max = Services::MAX)]
    TooMany(usize),
    /// Two have one path.
    #[error("services {0} and {1} have the same path {2}: give one of them another")]
    SamePath(String, String, String),
}

impl Services {
    /// The most services a session can have: each has one bit of an instance's readiness.
    pub const MAX: usize = 16;

    /// # Errors
    /// If there is none, are too many, or two share a path.
    pub fn new(specs: Vec<ServiceSpec>) -> Result<Self, ServicesError> {
        if specs.is_empty() {
            return Err(ServicesError::Empty);
        }
        if specs.len() > Self::MAX {
            return Err(ServicesError::TooMany(specs.len()));
        }
        for (at, spec) in specs.iter().enumerate() {
            if let Some(other) = specs[..at].iter().find(|other| other.path == spec.path) {
                return Err(ServicesError::SamePath(
                    other.name.clone(),
                    spec.name.clone(),
                    spec.path.clone(),
                ));
            }
        }
        Ok(Self(specs.into()))
    }

    /// How `service` is addressed.
    #[must_use]
    pub fn spec(&self, service: Service) -> &ServiceSpec {
        &self.0[usize::from(service.0)]
    }

    /// The service of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Service> {
        self.iter()
            .find(|(_, spec)| spec.name == name)
            .map(|(service, _)| service)
    }

    /// All services with how each is addressed, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = (Service, &ServiceSpec)> {
        Service::first(self.0.len()).zip(self.0.iter())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Service {
    /// The first `count` places, in order.
    pub(crate) fn first(count: usize) -> impl Iterator<Item = Self> {
        (0u8..).map(Self).take(count)
    }

    /// Its place in [`Services`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl ServiceSpec {
    /// The name as an environment variable's prefix: `preview` is `PREVIEW`, `my-term` is `MY_TERM`.
    #[must_use]
    pub fn variable(&self) -> String {
        self.name.to_ascii_uppercase().replace('-', "_")
    }
}
