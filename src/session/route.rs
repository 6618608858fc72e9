//! A request's path, and what it addresses.
//!
//! Matching is on raw bytes: nothing is decoded and no case is folded, so that one session has one URL and nothing
//! downstream can read a path differently than it was routed.

use super::{Prefix, Service, Services, SessionId};

/// What a path addresses. Borrowed from the path: what lies behind the service is forwarded byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// A service of a session.
    Service {
        /// The session.
        id: SessionId,
        /// The service.
        service: Service,
        /// What follows the service's path: empty, or beginning with its slash.
        rest: &'a str,
    },
    /// The same address with a slash behind it is meant: 308, with the query kept.
    Slash(SessionId),
    /// The session's own page.
    Page(SessionId),
    /// The session's public API below `/<uuid>/-/`.
    Own(SessionId, Action),
}

/// What the session's public API offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `GET`: where the session stands.
    Status,
    /// `GET`: the same as events, whenever it changes.
    Events,
    /// `POST`: start it, or try again at once.
    Start,
    /// `POST`: stop it and keep its workspace.
    Stop,
    /// `POST`: it is in use, and an announced stop is taken back.
    Keep,
}

/// Why a path addresses nothing. Each is a 404 for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The first segment is no session id.
    #[error("the path does not begin with a session id")]
    SessionId,
    /// The session has no such service.
    #[error("the session has no service at this path")]
    Service,
    /// The session's API has no such call.
    #[error("the session's API has no such call")]
    Action,
}

impl<'a> Route<'a> {
    /// Reads the raw path of a request, without its query.
    ///
    /// # Errors
    /// If it addresses no session, or nothing of one.
    pub fn parse(services: &Services, path: &'a str) -> Result<Self, RouteError> {
        let path = path.strip_prefix('/').ok_or(RouteError::SessionId)?;
        let (id, rest) = path
            .split_at_checked(SessionId::LEN)
            .ok_or(RouteError::SessionId)?;
        let id = SessionId::from_bytes(id.as_bytes()).map_err(|_| RouteError::SessionId)?;
        match rest {
            "" => return Ok(Self::Slash(id)),
            "/" => return Ok(Self::Page(id)),
            _ if !rest.starts_with('/') => return Err(RouteError::SessionId),
            _ => {}
        }
        if let Some(call) = rest.strip_prefix("/-/") {
            return Action::parse(call).map(|action| Self::Own(id, action));
        }
        let (service, spec, rest) = services
            .iter()
            .filter_map(|(service, spec)| {
                Some((service, spec, rest.strip_prefix(spec.path.as_str())?))
            })
            // `/preview` must not claim `/previews`; of `/a` and `/a/b` the longer one is meant.
            .filter(|(_, _, rest)| rest.is_empty() || rest.starts_with('/'))
            .max_by_key(|(_, spec, _)| spec.path.len())
            .ok_or(RouteError::Service)?;
        // Where the prefix is kept the service decides: Next redirects the slash away, and both at once is a loop.
        if rest.is_empty() && spec.prefix == Prefix::Strip {
            return Ok(Self::Slash(id));
        }
        Ok(Self::Service { id, service, rest })
    }

    /// The session that is addressed.
    #[must_use]
    pub fn session(&self) -> SessionId {
        match *self {
            Self::Service { id, .. } | Self::Slash(id) | Self::Page(id) | Self::Own(id, _) => id,
        }
    }
}

impl Action {
    fn parse(call: &str) -> Result<Self, RouteError> {
        match call {
            "status" => Ok(Self::Status),
            "events" => Ok(Self::Events),
            "start" => Ok(Self::Start),
            "stop" => Ok(Self::Stop),
            "keep" => Ok(Self::Keep),
            _ => Err(RouteError::Action),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::ServiceSpec;

    const ID: &str = "3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f";

    fn services() -> Services {
        Services::new(vec![
            ServiceSpec::example("preview", Prefix::Keep),
            ServiceSpec::example("chat", Prefix::Strip),
            ServiceSpec::example("vscode", Prefix::Strip),
        ])
        .unwrap()
    }

    #[test]
    fn a_path_is_matched_on_its_raw_bytes() {
        let services = services();
        let id: SessionId = ID.parse().unwrap();
        let service = |name, rest| {
            Ok(Route::Service {
                id,
                service: services.named(name).unwrap(),
                rest,
            })
        };
        let table = [
            (format!("/{ID}"), Ok(Route::Slash(id))),
            (format!("/{ID}/"), Ok(Route::Page(id))),
            (format!("/{ID}/preview"), service("preview", "")),
            (format!("/{ID}/preview/"), service("preview", "/")),
            (
                format!("/{ID}/preview//a%2Fb/../c"),
                service("preview", "//a%2Fb/../c"),
            ),
            (format!("/{ID}/chat"), Ok(Route::Slash(id))),
            (format!("/{ID}/vscode/x"), service("vscode", "/x")),
            (
                format!("/{ID}/-/status"),
                Ok(Route::Own(id, Action::Status)),
            ),
            (
                format!("/{ID}/-/events"),
                Ok(Route::Own(id, Action::Events)),
            ),
            (format!("/{ID}/-/start"), Ok(Route::Own(id, Action::Start))),
            (format!("/{ID}/-/stop"), Ok(Route::Own(id, Action::Stop))),
            (format!("/{ID}/-/keep"), Ok(Route::Own(id, Action::Keep))),
            (format!("/{ID}/-/"), Err(RouteError::Action)),
            (format!("/{ID}/-/stop/"), Err(RouteError::Action)),
            (format!("/{ID}/previews"), Err(RouteError::Service)),
            (format!("/{ID}/Preview/"), Err(RouteError::Service)),
            (format!("/{ID}/pre%76iew/"), Err(RouteError::Service)),
            (format!("/{ID}//preview/"), Err(RouteError::Service)),
            (format!("/{ID}/terminal"), Err(RouteError::Service)),
            (format!("/{ID}x/preview"), Err(RouteError::SessionId)),
            (format!("//{ID}/preview"), Err(RouteError::SessionId)),
            (
                format!("/{}/preview", ID.to_uppercase()),
                Err(RouteError::SessionId),
            ),
            (
                format!("/%33{}/preview", &ID[1..]),
                Err(RouteError::SessionId),
            ),
            ("/".to_owned(), Err(RouteError::SessionId)),
            (String::new(), Err(RouteError::SessionId)),
            ("*".to_owned(), Err(RouteError::SessionId)),
        ];
        for (path, expected) in table {
            assert_eq!(Route::parse(&services, &path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics_and_the_rest_is_the_tail_of_the_path(path in any::<String>(), tail in "(/[ -~]{0,40})?") {
            let services = services();
            let _ = Route::parse(&services, &path);
            let path = format!("/{ID}/preview{tail}");
            let Ok(Route::Service { rest, .. }) = Route::parse(&services, &path) else {
                panic!("{path} is no service");
            };
            prop_assert_eq!(rest, tail);
        }
    }
}
