//! The operators' port: health, metrics, the API of sessions, and a dashboard. On the control runtime.
//!
//! It listens on loopback by default. Beyond that it asks for a token, unless it is said to be fine that it does not;
//! health and metrics are open to whoever reaches it. It refuses what pages of browsers send, its own apart.

mod access;
mod config;
mod dashboard;
mod document;
mod events;
mod problem;
mod sessions;

use std::{collections::BTreeMap, net::TcpListener as StdListener, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, broadcast},
};
use utoipa::{
    OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use access::Access;
pub use access::TokenError;
pub use config::AdminConfig;
use problem::Problem;

use crate::{
    activator::{Activator, Inspect, overall, phase},
    metrics::Metrics,
    session::{Phase, Services, SessionId},
    shutdown::{Drain, Stage},
};

/// What the operators' port tells of and acts on.
pub struct Admin {
    activator: Arc<Activator>,
    inspect: Arc<dyn Inspect>,
    services: Services,
    metrics: Arc<Metrics>,
    drain: Drain,
    /// The places of those who watch.
    watchers: Arc<Semaphore>,
    /// Tells them which sessions were deleted here: of those that did not run they would not hear.
    deleted: broadcast::Sender<SessionId>,
}

/// The beginning of the API's description; the calls are added by their own.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "session-gateway",
        description = "The operators' API: sessions that are listed, shown, explained, started, kept, stopped, deleted."
    ),
    components(schemas(Problem))
)]
struct Description;

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
            watchers: Arc::new(Semaphore::new(events::STREAMS)),
            deleted: broadcast::Sender::new(events::DELETIONS),
        })
    }

    /// Serves on a listener until the process has drained, to those who have the token of this file; to all who reach
    /// it if the path is empty.
    ///
    /// # Errors
    /// If the listener cannot be used by this runtime, or the file is no token.
    pub fn serve(
        self: Arc<Self>,
        listener: StdListener,
        token_file: &std::path::Path,
    ) -> Result<impl Future<Output = ()> + use<>, ServeError> {
        let access = Access::read(token_file)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let drain = self.drain.clone();
        let serve = axum::serve(listener, router(self, access)).into_future();
        Ok(async move {
            tokio::select! {
                // It ends by an error of the listener only, and never does.
                _ = serve => {}
                () = drain.reached(Stage::Ended) => {}
            }
        })
    }
}

/// Why the operators' port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener cannot be used.
    #[error("its listener cannot be used")]
    Listener(#[from] std::io::Error),
    /// The token cannot be had.
    #[error("admin.token_file")]
    Token(#[from] TokenError),
}

fn router(admin: Arc<Admin>, access: Access) -> Router {
    let (api, mut description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::show, sessions::delete))
        .routes(routes!(sessions::explain))
        .routes(routes!(sessions::start))
        .routes(routes!(sessions::keep))
        .routes(routes!(sessions::stop))
        .routes(routes!(events::events))
        .split_for_parts();
    let components = description.components.get_or_insert_default();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("token", token);
    let scopes: [&str; 0] = [];
    // Either: whether there is a token is a setting.
    let either = [
        SecurityRequirement::new("token", scopes),
        SecurityRequirement::default(),
    ];
    description.security = Some(either.into());
    let description = Json(description);
    api.route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(dashboard::routes())
        .route("/openapi.json", get(|| async { description }))
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .layer(from_fn_with_state(access, access::admit))
        .with_state(admin)
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
