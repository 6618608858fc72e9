//! The calls of the API: each one what it asks for, what it does, and what it answers.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Admin,
    document::{Deleted, Explanation, Session, Sessions, State as SessionState},
    problem::{Aged, Problem, Refused},
};
use crate::{
    activator::{Listed, Overview, Seen},
    session::{Found, Grant, SessionId},
};

/// Sessions of one page of the list, unless the caller says otherwise.
const PAGE: usize = 100;
/// The most sessions of one page.
const LARGEST_PAGE: usize = 1000;
/// Sessions of which it is asked at a time whether they are protected.
const AT_A_TIME: usize = 8;

/// Which sessions are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Those after this one, by id: the `next` of the page before.
    #[param(format = "uuid")]
    after: Option<String>,
    /// So many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Those in this state.
    state: Option<SessionState>,
    /// Those of this user of the platform.
    user: Option<String>,
    /// Those of this project of the platform.
    project: Option<String>,
    /// With `true`, those that are to be removed, since nobody has used them for `retention.after`, and those that
    /// would be if they were not `protected`.
    unused: Option<bool>,
}

/// Which session is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct One {
    /// Its UUID, in lower case and with hyphens.
    #[param(format = "uuid")]
    id: String,
}

impl Filter {
    fn is_any(&self) -> bool {
        self.state.is_none() && self.user.is_none() && self.project.is_none()
    }

    /// Whether what is on record fits.
    fn fits_record(&self, listed: &Listed) -> bool {
        let user = self.user.as_ref();
        let project = self.project.as_ref();
        user.is_none_or(|user| *user == listed.plan.user)
            && project.is_none_or(|project| *project == listed.plan.project)
    }

    fn fits(&self, session: &Session) -> bool {
        self.state.is_none_or(|state| state.name() == session.state)
    }
}

impl One {
    fn id(&self) -> Result<SessionId, Problem> {
        parse(&self.id)
    }
}

impl Admin {
    /// A session as it stands, with what was read of it before.
    pub(super) fn of_record(&self, id: SessionId, listed: Option<Listed>) -> Session {
        let nothing = Seen {
            found: Found::Absent,
            used: None,
        };
        let seen = listed
            .as_ref()
            .map_or(nothing, |listed| listed.seen.clone());
        let overview = self.activator.overview_of(id, &seen, &self.services);
        self.document(overview, listed)
    }

    /// A session, whether there is anything of it or not.
    pub(super) async fn known(&self, id: SessionId) -> Result<Session, Problem> {
        let failed = |error| Problem::spawner(&error);
        let overview = self.activator.overview(id, &self.services);
        let overview = overview.await.map_err(failed)?;
        // Of one that has no record, no plan is told.
        let listed = self.inspect.find(id).await.map_err(failed)?;
        Ok(self.document(overview, listed))
    }

    /// A session with whether it is protected, if nobody has used it for long.
    async fn marked(
        &self,
        unused: Option<Listed>,
        mut session: Session,
    ) -> Result<Session, Problem> {
        if let Some(listed) = unused {
            let protected = self.inspect.is_protected(&listed).await;
            session.protected = Some(protected.map_err(|error| Problem::spawner(&error))?);
        }
        Ok(session)
    }

    fn document(&self, overview: Overview, listed: Option<Listed>) -> Session {
        let slot = self.activator.table().slot(overview.id);
        let stages = self.activator.stages();
        Session::new(overview, &slot, listed, &self.services, stages)
    }
}

/// Lists the sessions that are on record, by id
#[utoipa::path(
    get, path = "/api/sessions", operation_id = "listSessions", params(Filter),
    responses((status = 200, description = "A page of them", body = Sessions), Refused)
)]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Sessions>, Problem> {
    let Query(filter) = filter.map_err(|error| Problem::query(&error.body_text()))?;
    let limit = filter.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::query("limit must be from 1 to 1000"));
    }
    let after = filter.after.as_deref().map(parse).transpose()?;
    // Of those that a filter leaves out nobody knows how many there are.
    let read = if filter.is_any() {
        limit + 1
    } else {
        usize::MAX
    };
    let is_unused = filter.unused == Some(true);
    let listed = if is_unused {
        let unused = admin.activator.unused().await;
        unused.map(|all| all.into_iter().filter(|one| Some(one.id) > after).collect())
    } else {
        admin.inspect.list(after, read).await
    };
    let listed: Vec<Listed> = listed.map_err(|error| Problem::spawner(&error))?;
    let fitting = listed.into_iter().filter(|one| filter.fits_record(one));
    let mut page: Vec<_> = fitting
        .map(|one| {
            (
                is_unused.then(|| one.clone()),
                admin.of_record(one.id, Some(one)),
            )
        })
        .filter(|(_, session)| filter.fits(session))
        .take(limit + 1)
        .collect();
    let is_last = page.len() <= limit;
    page.truncate(limit);
    let sessions = stream::iter(page).map(|(unused, session)| admin.marked(unused, session));
    let sessions: Vec<Session> = sessions.buffered(AT_A_TIME).try_collect().await?;
    let last = sessions.last().filter(|_| !is_last);
    let next = last.map(|last| last.id.clone());
    Ok(Json(Sessions { sessions, next }))
}

/// Shows a session with the last lines of its services
#[utoipa::path(
    get, path = "/api/sessions/{id}", operation_id = "showSession", params(One),
    responses((status = 200, description = "The session", body = Session), Refused)
)]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(one): Path<One>,
) -> Result<Json<Session>, Problem> {
    let id = one.id()?;
    let mut session = admin.known(id).await?;
    let tail = admin.inspect.tail(id).await;
    let tail = tail.map_err(|error| Problem::spawner(&error))?;
    for (service, output) in session.services.iter_mut().zip(tail) {
        service.output = Some(output).filter(|output| !output.is_empty());
    }
    Ok(Json(session))
}

/// Tells why a session is not there
///
/// Every condition from its address to its ports, in order. It asks the cluster for nothing but the session's record.
#[utoipa::path(
    get, path = "/api/sessions/{id}/explain", operation_id = "explainSession", params(One),
    responses((status = 200, description = "Every condition, and where it stands", body = Explanation), Refused)
)]
pub(super) async fn explain(
    State(admin): State<Arc<Admin>>,
    Path(one): Path<One>,
) -> Result<Json<Explanation>, Problem> {
    let id = one.id()?;
    let explained = admin.activator.explain(id, &admin.services).await;
    let explanation = Explanation::new(id.to_string(), explained, &admin.services);
    Ok(Json(explanation))
}

/// Starts a session
///
/// Returns at once. Of a session that runs, the services that failed are started again.
#[utoipa::path(
    post, path = "/api/sessions/{id}/start", operation_id = "startSession", params(One),
    responses((status = 202, description = "It is being started, or runs", body = Session), Refused)
)]
pub(super) async fn start(
    State(admin): State<Arc<Admin>>,
    Path(one): Path<One>,
) -> Result<Response, Problem> {
    let id = one.id()?;
    let known = admin.activator.known(id).await;
    known.map_err(|error| Problem::spawner(&error))?;
    admin.activator.start(id, Grant { spawn: true });
    Ok((StatusCode::ACCEPTED, Json(admin.known(id).await?)).into_response())
}

/// Counts as use of a session, and takes back that it will be stopped
///
/// Does nothing for a session that does not run.
#[utoipa::path(
    post, path = "/api/sessions/{id}/keep", operation_id = "keepSession", params(One),
    responses((status = 200, description = "The session", body = Session), Refused, Aged)
)]
pub(super) async fn keep(
    State(admin): State<Arc<Admin>>,
    Path(one): Path<One>,
) -> Result<Json<Session>, Problem> {
    let id = one.id()?;
    let kept = admin.activator.keep_alive(id).await;
    kept.map_err(|error| Problem::keep(&error))?;
    Ok(Json(admin.known(id).await?))
}

/// Stops a session and keeps its files
///
/// Returns when nothing of it runs.
#[utoipa::path(
    post, path = "/api/sessions/{id}/stop", operation_id = "stopSession", params(One),
    responses((status = 200, description = "It does not run", body = Session), Refused)
)]
pub(super) async fn stop(
    State(admin): State<Arc<Admin>>,
    Path(one): Path<One>,
) -> Result<Json<Session>, Problem> {
    let id = one.id()?;
    let stopped = admin.activator.stop(id).await;
    stopped.map_err(|error| Problem::spawner(&error))?;
    Ok(Json(admin.known(id).await?))
}

/// Deletes a session with its files
///
/// What runs of it is ended. It may take some time after the answer until all of it is gone. A session of which there
/// is nothing is no error.
#[utoipa::path(
    delete, path = "/api/sessions/{id}", operation_id = "deleteSession", params(One),
    responses((status = 202, description = "It is being removed, or is not there", body = Deleted), Refused)
)]
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Path(one): Path<One>,
) -> Result<Response, Problem> {
    let id = one.id()?;
    let deleted = admin.activator.delete(id).await;
    let deleted = deleted.map_err(|error| Problem::spawner(&error))?;
    // Whether anybody watches does not matter.
    let _ = admin.deleted.send(id);
    let id = id.to_string();
    Ok((StatusCode::ACCEPTED, Json(Deleted { id, deleted })).into_response())
}

fn parse(id: &str) -> Result<SessionId, Problem> {
    id.parse().map_err(|error| Problem::id(&error))
}
