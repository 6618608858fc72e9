//! What a service finds in its environment. Pure.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use super::processes::MARK;
use crate::session::{Plan, Service, Services, SessionId};

/// What the environments of a session's services are made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session<'a> {
    pub(super) id: SessionId,
    pub(super) plan: &'a Plan,
    pub(super) services: &'a Services,
    /// By [`Service::index`].
    pub(super) ports: &'a [u16],
    pub(super) workspace: &'a Path,
}

/// The variables of one service, beside what it inherits. Of one name the last counts, so `own`, the operator's, wins
/// over all but the mark.
///
/// `BASE_PATH` is where the service is seen from outside; one whose prefix is stripped gets its requests without it,
/// and needs it for absolute links only.
pub(super) fn of(
    session: Session<'_>,
    service: Service,
    own: impl IntoIterator<Item = (OsString, OsString)>,
    lock: &Path,
) -> Vec<(OsString, OsString)> {
    let Session {
        id,
        plan,
        services,
        ports,
        workspace,
    } = session;
    let port = |service: Service| OsString::from(ports[service.index()].to_string());
    let base = |service| OsString::from(format!("/{id}{}", services.spec(service).path));
    let mut variables = vec![
        ("PORT".into(), port(service)),
        ("BASE_PATH".into(), base(service)),
        // Where it is to listen: the probe and the gateway connect to nothing else.
        ("HOST".into(), "127.0.0.1".into()),
        ("SESSION_UUID".into(), id.to_string().into()),
        ("PROJECT_ID".into(), OsString::from(&plan.project)),
        ("USER_ID".into(), OsString::from(&plan.user)),
        ("WORKSPACE".into(), workspace.into()),
    ];
    for (other, spec) in services.iter() {
        let name = spec.variable();
        variables.push((format!("{name}_PORT").into(), port(other)));
        variables.push((format!("{name}_BASE_PATH").into(), base(other)));
    }
    variables.extend(own);
    variables.push((MARK.into(), lock.into()));
    variables
}

/// Whether a service inherits this variable of the gateway: not the gateway's own settings, among which are secrets.
pub(super) fn is_inherited(name: &OsStr) -> bool {
    !name.as_encoded_bytes().starts_with(b"SESSION_GATEWAY__")
}
