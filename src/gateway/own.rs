//! Our own pages and the session's public API: what lies under `/<uuid>/` and `/<uuid>/-/`.

mod status;

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts, uri::PathAndQuery,
};
use tokio::sync::mpsc;

use super::{
    Entry, Gateway, GatewayError, Target, answer,
    answer::Asker,
    body::Body,
    headers::{client, origin_is},
};
use crate::{
    activator::{ActivateError, Overview, SpawnError},
    pages::{self, Frame, ServiceView, SessionView},
    session::{Action, Service, SessionId, clock},
};
use status::Status;

impl Gateway {
    /// Answers what is not a service's.
    pub(super) async fn own(
        &self,
        head: &Parts,
        entry: &Entry,
        asker: &Asker,
    ) -> Result<Response<Body>, GatewayError> {
        served(&head.method, &entry.target)?;
        match entry.target {
            // Which method does not matter: a redirect does nothing, and 308 keeps it.
            Target::Slash => Ok(slash(head, asker)),
            Target::Page(id) => self.page(id, asker).await,
            Target::Own(id, Action::Status) => {
                let answer = self.status(id, asker, StatusCode::OK).await?;
                Ok(answer::shared(answer, &self.shared.config.embedders, head))
            }
            Target::Own(id, Action::Events) => {
                let answer = self.events(id, asker, head.method == Method::HEAD);
                let answer = answer.await?;
                Ok(answer::shared(answer, &self.shared.config.embedders, head))
            }
            Target::Own(id, Action::Start) => {
                let known = self.shared.activator.known(id).await;
                known.map_err(|error| self.unseen(id, error, true))?;
                let client = client(&head.headers, &entry.peer);
                let begun = self.shared.activator.start_for(client, id, entry.grant);
                begun.map_err(|error| GatewayError::Activate(error, self.first(), true))?;
                self.done(
                    id,
                    back(id, &head.headers, entry.admitted.public.host()),
                    asker,
                    StatusCode::ACCEPTED,
                )
                .await
            }
            Target::Own(id, Action::Stop) => {
                self.shared
                    .activator
                    .stop(id)
                    .await
                    .map_err(|error| GatewayError::Stop(id, error))?;
                // To its own page: any other would start it again.
                self.done(
                    id,
                    back(id, &HeaderMap::new(), entry.admitted.public.host()),
                    asker,
                    StatusCode::OK,
                )
                .await
            }
            Target::Own(id, Action::Keep) => {
                let kept = self.shared.activator.keep_alive(id).await;
                kept.map_err(GatewayError::Keep)?;
                self.done(
                    id,
                    back(id, &head.headers, entry.admitted.public.host()),
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
        overview.map_err(|error| self.unseen(id, error, false))
    }

    /// The session cannot be looked at, for a form or not.
    fn unseen(&self, id: SessionId, error: SpawnError, form: bool) -> GatewayError {
        GatewayError::Activate(ActivateError::Look(id, error), self.first(), form)
    }

    fn first(&self) -> Service {
        let mut services = self.shared.services.iter();
        services.next().expect("a session has a service").0
    }

    async fn page(&self, id: SessionId, asker: &Asker) -> Result<Response<Body>, GatewayError> {
        let overview = self.overview(id).await?;
        let activator = &self.shared.activator;
        let said = activator.last_lines(id).await;
        let services: Vec<ServiceView<'_>> = overview
            .services
            .into_iter()
            .map(|(service, phase, _)| {
                let spec = self.shared.services.spec(service);
                ServiceView {
                    name: &spec.name,
                    path: &spec.path,
                    phase,
                    said: said.get(service.index()).cloned().unwrap_or_default(),
                }
            })
            .collect();
        let used = overview
            .used
            .map(|used| used.strftime("%Y-%m-%d %H:%M UTC").to_string());
        let slot = activator.table().slot(id);
        let failure = slot.last_failure(self.first());
        let failure = failure.filter(|_| slot.instance.is_none());
        let failure = |state| Some(&*failure.filter(|_| overview.state == state)?.reason);
        let view = SessionView {
            id,
            state: overview.state,
            services: &services,
            used,
            stop: overview
                .stop
                .map(|stop| (stop.because, clock::until(stop.at).as_secs())),
            lost: failure("vanished"),
            failure: failure("failed"),
            start: slot.last_start(),
            stages: activator.stages(),
            has_one_output: activator.has_one_output(),
        };
        let embedders = &self.shared.config.embedders;
        let write = |frame: Frame<'_>| pages::session(frame, view);
        Ok(answer::html(asker, embedders, write))
    }

    async fn status(
        &self,
        id: SessionId,
        asker: &Asker,
        status: StatusCode,
    ) -> Result<Response<Body>, GatewayError> {
        let overview = self.overview(id).await?;
        let document = Status::of(&overview, &self.shared.services);
        let mut response = answer::json(asker, "application/json", &document);
        *response.status_mut() = status;
        Ok(response)
    }

    /// The same as events. Worded on control, too: this worker hands it on.
    async fn events(
        &self,
        id: SessionId,
        asker: &Asker,
        head: bool,
    ) -> Result<Response<Body>, GatewayError> {
        if head {
            self.overview(id).await?;
            let (_, nothing) = mpsc::channel(1);
            return Ok(answer::events(asker, nothing));
        }
        let shared = Arc::clone(&self.shared);
        let write = move |overview: Option<&Overview>| match overview {
            Some(overview) => Status::of(overview, &shared.services).event(),
            None => Bytes::from_static(status::NOTHING),
        };
        let (activator, services) = (&self.shared.activator, &self.shared.services);
        let told = activator.follow(id, services, write).await;
        let told = told.map_err(|error| GatewayError::Activate(error, self.first(), false))?;
        Ok(answer::events(asker, told))
    }
}

/// Whether this address of ours serves the method.
fn served(method: &Method, target: &Target) -> Result<(), GatewayError> {
    let (allowed, names): (&[Method], _) = match target {
        Target::Page(_) | Target::Own(_, Action::Status | Action::Events) => {
            (&[Method::GET, Method::HEAD], "GET, HEAD")
        }
        Target::Own(_, Action::Start | Action::Stop | Action::Keep) => (&[Method::POST], "POST"),
        Target::Slash | Target::Service(..) => return Ok(()),
    };
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
