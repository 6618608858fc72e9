//! Our own pages and the session's public API: what lies under `/<uuid>/` and `/<uuid>/-/`.

use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts, uri::PathAndQuery,
};
use serde::Serialize;

use super::{
    Entry, Gateway, GatewayError, Target, answer, answer::Asker, body::Body, headers::origin_is,
};
use crate::{
    activator::{ActivateError, Overview},
    pages::{self, ServiceView, SessionView},
    session::{Action, Phase, SessionId},
};

/// A session as its public API tells of it. Addresses are not public.
#[derive(Serialize)]
struct Status<'a> {
    id: String,
    state: &'a str,
    used: Option<String>,
    services: Vec<ServiceStatus<'a>>,
}

#[derive(Serialize)]
struct ServiceStatus<'a> {
    name: &'a str,
    url: String,
    state: &'static str,
    /// What a start waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<crate::session::Stage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Gateway {
    /// Answers what is not a service's.
    pub(super) async fn own(
        &self,
        head: &Parts,
        entry: &Entry,
        asker: &Asker,
    ) -> Result<Response<Body>, GatewayError> {
        match entry.target {
            // Which method does not matter: a redirect does nothing, and 308 keeps it.
            Target::Slash => Ok(slash(head, asker)),
            Target::Page(id) => {
                only(&head.method, &[Method::GET, Method::HEAD], "GET, HEAD")?;
                self.page(id, asker).await
            }
            Target::Own(id, Action::Status) => {
                only(&head.method, &[Method::GET, Method::HEAD], "GET, HEAD")?;
                self.status(id, asker, StatusCode::OK).await
            }
            Target::Own(id, Action::Start) => {
                only(&head.method, &[Method::POST], "POST")?;
                self.shared.activator.start(id, entry.grant);
                self.done(
                    id,
                    back(id, &head.headers, &entry.admitted.public.host),
                    asker,
                    StatusCode::ACCEPTED,
                )
                .await
            }
            Target::Own(id, Action::Stop) => {
                only(&head.method, &[Method::POST], "POST")?;
                self.shared
                    .activator
                    .stop(id)
                    .await
                    .map_err(|error| GatewayError::Stop(id, error))?;
                // To its own page: any other would start it again.
                self.done(
                    id,
                    back(id, &HeaderMap::new(), &entry.admitted.public.host),
                    asker,
                    StatusCode::OK,
                )
                .await
            }
            Target::Service(..) => unreachable!("services are forwarded"),
        }
    }

    /// A person goes back to the page the button was on; a program is told where the session stands.
    async fn done(
        &self,
        id: SessionId,
        back: HeaderValue,
        asker: &Asker,
        status: StatusCode,
    ) -> Result<Response<Body>, GatewayError> {
        if asker.wants_page() {
            return Ok(answer::redirect(asker, StatusCode::SEE_OTHER, back));
        }
        self.status(id, asker, status).await
    }

    async fn overview(&self, id: SessionId) -> Result<Overview, GatewayError> {
        let overview = self
            .shared
            .activator
            .overview(id, &self.shared.services)
            .await;
        overview.map_err(|error| {
            let (first, _) = self
                .shared
                .services
                .iter()
                .next()
                .expect("a session has a service");
            GatewayError::Activate(ActivateError::Look(id, error), first, false)
        })
    }

    async fn page(&self, id: SessionId, asker: &Asker) -> Result<Response<Body>, GatewayError> {
        let overview = self.overview(id).await?;
        let services: Vec<ServiceView<'_>> = overview
            .services
            .into_iter()
            .map(|(service, phase, _)| {
                let spec = self.shared.services.spec(service);
                ServiceView {
                    name: &spec.name,
                    path: &spec.path,
                    phase,
                }
            })
            .collect();
        let used = overview
            .used
            .map(|used| used.strftime("%Y-%m-%d %H:%M UTC").to_string());
        let view = SessionView {
            id,
            state: overview.state,
            services: &services,
            used,
        };
        Ok(answer::html(asker, |frame| pages::session(frame, view)))
    }

    async fn status(
        &self,
        id: SessionId,
        asker: &Asker,
        status: StatusCode,
    ) -> Result<Response<Body>, GatewayError> {
        let overview = self.overview(id).await?;
        let services = overview.services.iter().map(|(service, phase, _)| {
            let spec = self.shared.services.spec(*service);
            let stage = if let Phase::Starting { stage, .. } = phase {
                Some(*stage)
            } else {
                None
            };
            let reason = if let Phase::Failed(failure) = phase {
                Some(failure.reason.to_string())
            } else {
                None
            };
            ServiceStatus {
                name: &spec.name,
                url: format!("/{id}{}/", spec.path),
                state: phase.name(),
                stage,
                reason,
            }
        });
        let document = Status {
            id: id.to_string(),
            state: overview.state,
            used: overview.used.map(|used| used.to_string()),
            services: services.collect(),
        };
        let mut response = answer::json(asker, "application/json", &document);
        *response.status_mut() = status;
        Ok(response)
    }
}

fn only(method: &Method, allowed: &[Method], names: &'static str) -> Result<(), GatewayError> {
    if allowed.contains(method) {
        Ok(())
    } else {
        Err(GatewayError::Method(names))
    }
}

/// The same address with a slash behind its path, query kept.
fn slash(head: &Parts, asker: &Asker) -> Response<Body> {
    let mut location = format!("{}/", head.uri.path());
    if let Some(query) = head.uri.query() {
        location.push('?');
        location.push_str(query);
    }
    let location =
        HeaderValue::try_from(location).expect("a target that was parsed is visible ASCII");
    answer::redirect(asker, StatusCode::PERMANENT_REDIRECT, location)
}

/// The page of this session a form was on, by its `Referer`; the session's own page where that is none of it.
fn back(id: SessionId, headers: &HeaderMap, host: &str) -> HeaderValue {
    let own = format!("/{id}/");
    let referer = headers
        .get(header::REFERER)
        .filter(|value| origin_is(value.as_bytes(), host));
    let path = referer.and_then(|value| value.to_str().ok()?.parse::<http::Uri>().ok());
    let path = path
        .as_ref()
        .and_then(|uri| uri.path_and_query())
        .map(PathAndQuery::as_str);
    let path = path.filter(|path| path.starts_with(&own)).unwrap_or(&own);
    HeaderValue::try_from(path).expect("a path that was parsed is visible ASCII")
}
