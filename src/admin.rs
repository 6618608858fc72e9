//! The operators' port: health, metrics, and the sessions to list, start and stop. On the control runtime.
//!
//! It has no authentication of its own: it listens on loopback by default, and refuses what a browser's page sends.

mod config;
mod problem;

use std::{
    collections::BTreeMap,
    net::{IpAddr, TcpListener as StdListener},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

pub use config::AdminConfig;
use problem::Problem;

use crate::{
    activator::{Activator, Inspect, Listed, overall, phase},
    metrics::Metrics,
    session::{Grant, Phase, Plan, Services, SessionId},
    shutdown::{Drain, Stage},
};

/// Sessions of one page of the list, unless the caller says otherwise.
const PAGE: usize = 100;
/// The most sessions of one page.
const LARGEST_PAGE: usize = 1000;

/// What the operators' port tells of and acts on.
pub struct Admin {
    activator: Arc<Activator>,
    inspect: Arc<dyn Inspect>,
    services: Services,
    metrics: Arc<Metrics>,
    drain: Drain,
}

/// A page of sessions. `next`: to be given as `after` for the following one.
#[derive(Serialize)]
struct Sessions {
    sessions: Vec<Session>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Session {
    id: String,
    state: &'static str,
    project: Option<String>,
    user: Option<String>,
    used: Option<String>,
    services: Vec<Service>,
}

#[derive(Serialize)]
struct Service {
    name: String,
    state: &'static str,
    address: Option<String>,
    reason: Option<String>,
    /// The last lines it wrote; of one session only, since a list of them is large.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

#[derive(Deserialize)]
struct Slice {
    after: Option<String>,
    limit: Option<usize>,
}

impl Admin {
    /// What acts on these sessions.
    #[must_use]
    pub fn new(
        activator: &Arc<Activator>,
        inspect: &Arc<dyn Inspect>,
        services: &Services,
        metrics: Arc<Metrics>,
        drain: Drain,
    ) -> Arc<Self> {
        let (activator, inspect) = (Arc::clone(activator), Arc::clone(inspect));
        Arc::new(Self {
            activator,
            inspect,
            services: services.clone(),
            metrics,
            drain,
        })
    }

    /// Serves on a listener until the process has drained.
    ///
    /// # Errors
    /// If the listener cannot be used by this runtime.
    pub fn serve(
        self: Arc<Self>,
        listener: StdListener,
    ) -> std::io::Result<impl Future<Output = ()>> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let drain = self.drain.clone();
        let serve = axum::serve(listener, router(self)).into_future();
        Ok(async move {
            tokio::select! {
                // It ends by an error of the listener only, and never does.
                _ = serve => {}
                () = drain.reached(Stage::Ended) => {}
            }
        })
    }

    async fn session(&self, id: SessionId, plan: Option<Plan>) -> Result<Session, Problem> {
        let overview = self
            .activator
            .overview(id, &self.services)
            .await
            .map_err(|error| Problem::spawner(&error))?;
        let services = overview
            .services
            .iter()
            .map(|(service, phase, address)| Service {
                name: self.services.spec(*service).name.clone(),
                state: phase.name(),
                address: address.map(|address| address.to_string()),
                reason: if let Phase::Failed(failure) = phase {
                    Some(failure.reason.to_string())
                } else {
                    None
                },
                output: None,
            });
        let plan = plan.map(|Plan { project, user }| (project, user)).unzip();
        Ok(Session {
            id: id.to_string(),
            state: overview.state,
            project: plan.0,
            user: plan.1,
            used: overview.used.map(|used| used.to_string()),
            services: services.collect(),
        })
    }

    /// The plan on record: of a session that has none, nothing is told.
    async fn plan(&self, id: SessionId) -> Result<Option<Plan>, Problem> {
        let listed = self
            .inspect
            .find(id)
            .await
            .map_err(|error| Problem::spawner(&error))?;
        Ok(listed.map(|listed| listed.plan))
    }

    async fn known(&self, id: &str) -> Result<Session, Problem> {
        let id = parse(id)?;
        self.session(id, self.plan(id).await?).await
    }
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/sessions", get(list))
        .route("/api/sessions/{id}", get(show))
        .route("/api/sessions/{id}/start", post(start))
        .route("/api/sessions/{id}/stop", post(stop))
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .layer(from_fn(refuse_pages))
        .with_state(admin)
}

/// Pages of browsers have no business here: what changes something is refused with any `Origin` or a `Sec-Fetch-Site`
/// of another site, and everything under a name that a page may have rebound to this address.
async fn refuse_pages(request: Request, next: Next) -> Response {
    if is_by_page(request.method(), request.headers()) {
        return Problem::page().into_response();
    }
    next.run(request).await
}

fn is_by_page(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST.as_str()).unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|_| !host.ends_with(']'))
        .map_or(host, |(name, _)| name);
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    // A name without a dot is one of this machine or of the cluster it is in.
    let is_ours =
        is_address || !name.contains('.') || name.ends_with(".svc") || name.ends_with(".local");
    let sent_by_page =
        text("origin").is_some() || text("sec-fetch-site").is_some_and(|site| site != "none");
    !is_ours || (method != Method::GET && sent_by_page)
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if *admin.drain.stage().borrow() != Stage::Serving {
        return (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response();
    }
    if !admin.activator.table().is_synced() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "sessions are not known yet\n",
        )
            .into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let now = tokio::time::Instant::now();
    let mut states: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (_, slot) in admin.activator.table().sessions() {
        let phases: Vec<Phase> = admin
            .services
            .iter()
            .filter_map(|(service, _)| phase(&slot, service, now))
            .collect();
        *states.entry(overall(&phases)).or_default() += 1;
    }
    let kind = [(
        header::CONTENT_TYPE,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )];
    (kind, admin.metrics.render(states)).into_response()
}

/// Records first; what runs here without a record that can be listed is not left out.
async fn list(
    State(admin): State<Arc<Admin>>,
    slice: Result<Query<Slice>, QueryRejection>,
) -> Result<Json<Sessions>, Problem> {
    let Query(slice) = slice.map_err(|_| Problem::limit())?;
    let limit = slice.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::limit());
    }
    let after = slice.after.as_deref().map(parse).transpose()?;
    let listed = admin
        .inspect
        .list(after, limit)
        .await
        .map_err(|error| Problem::spawner(&error))?;
    let next = if listed.len() == limit {
        listed.last().map(|last| last.id.to_string())
    } else {
        None
    };
    let mut sessions = Vec::with_capacity(listed.len());
    for Listed { id, plan, .. } in listed {
        sessions.push(admin.session(id, Some(plan)).await?);
    }
    Ok(Json(Sessions { sessions, next }))
}

async fn show(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<Session>, Problem> {
    let mut session = admin.known(&id).await?;
    let output = admin
        .inspect
        .tail(parse(&id)?)
        .await
        .map_err(|error| Problem::spawner(&error))?;
    for (service, output) in session.services.iter_mut().zip(output) {
        service.output = Some(output).filter(|output| !output.is_empty());
    }
    Ok(Json(session))
}

async fn start(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    admin.activator.start(parse(&id)?, Grant { spawn: true });
    Ok((StatusCode::ACCEPTED, Json(admin.known(&id).await?)).into_response())
}

async fn stop(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<Session>, Problem> {
    admin
        .activator
        .stop(parse(&id)?)
        .await
        .map_err(|error| Problem::spawner(&error))?;
    Ok(Json(admin.known(&id).await?))
}

fn parse(id: &str) -> Result<SessionId, Problem> {
    id.parse().map_err(|error| Problem::id(&error))
}
