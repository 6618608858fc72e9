//! What a service of a local session is started with: its command, its environment, its folder.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{Command, LocalSpawner};
use crate::session::{Plan, Service, SessionId};

/// What a supervisor is started with.
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) report: PathBuf,
    pub(super) grace: Duration,
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) cwd: PathBuf,
    pub(super) address: SocketAddr,
}

impl LocalSpawner {
    /// What `service` is started with, in a session that has these ports by [`Service::index`].
    pub(super) fn launch(
        &self,
        id: SessionId,
        plan: &Plan,
        service: Service,
        ports: &[u16],
    ) -> Launch {
        let spec = self.services.spec(service);
        let workspace = self.folder.workspace(id);
        let own = self.config.services.get(&spec.name).cloned();
        let built_in = || {
            vec![
                self.program.to_string_lossy().into_owned(),
                "demo".to_owned(),
                spec.name.clone(),
            ]
        };
        let (command, env, cwd) = match own {
            // A relative folder is one of the workspace.
            Some(Command { command, env, cwd }) => {
                (command, env, workspace.join(cwd.unwrap_or_default()))
            }
            None => (built_in(), BTreeMap::new(), workspace.clone()),
        };
        let port = ports[service.index()];
        let mut environment = vec![
            ("PORT".to_owned(), port.to_string()),
            ("HOST".to_owned(), Ipv4Addr::LOCALHOST.to_string()),
            ("BASE_PATH".to_owned(), format!("/{id}{}", spec.path)),
            ("SESSION_UUID".to_owned(), id.to_string()),
            ("PROJECT_ID".to_owned(), plan.project.clone()),
            ("USER_ID".to_owned(), plan.user.clone()),
            (
                "WORKSPACE".to_owned(),
                workspace.to_string_lossy().into_owned(),
            ),
        ];
        for (other, spec) in self.services.iter() {
            environment.push((
                format!("{}_PORT", spec.variable()),
                ports[other.index()].to_string(),
            ));
            environment.push((
                format!("{}_BASE_PATH", spec.variable()),
                format!("/{id}{}", spec.path),
            ));
        }
        environment.extend(env);
        let folder = self.folder.session(id);
        Launch {
            program: self.program.clone(),
            lock: folder.join(format!("{}.lock", spec.name)),
            report: folder.join(format!("{}.report", spec.name)),
            grace: self.config.grace,
            command,
            environment,
            cwd,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        }
    }
}
