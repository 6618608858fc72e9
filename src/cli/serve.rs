//! `session-gateway serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::{Failure, Settings, print};
use crate::app::{App, Control, Spawning};
use crate::config::{Config, SpawnerKind, environment_of_services};
use crate::spawner::kubernetes::KubernetesSpawner;
use crate::spawner::local::{self, LocalSpawner};
use crate::telemetry;

/// Run the gateway until SIGTERM or SIGINT
///
/// Settings come from the built-in defaults, then FILE, then the environment, then the command line; what comes later
/// wins. `session-gateway config default` prints all of them.
///
/// In the environment, two underscores stand for each dot: SESSION_GATEWAY__SPAWN__HOLD=30s sets spawn.hold. A value is
/// read as YAML, so [a, b] is a list. Keys with a hyphen or a capital can be set in the file and with --set only.
///
/// With --set, commas separate pairs and {a,b} is a list; a backslash takes the meaning off a comma or a dot.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: Settings,

    /// IP address and port where clients connect; the same as --set listen=ADDRESS
    #[arg(long, value_name = "ADDRESS", value_parser = super::address)]
    listen: Option<SocketAddr>,

    /// What runs sessions, local or kubernetes; the same as --set spawner=NAME
    #[arg(long, value_name = "NAME")]
    spawner: Option<String>,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let listen = self.listen.map(|listen| format!("listen={listen}"));
        let spawner = self.spawner.map(|spawner| format!("spawner={spawner}"));
        let config = self.settings.load(listen.into_iter().chain(spawner))?;
        telemetry::init(&config.log).context("logging cannot be started")?;
        let control = Control::start()?;
        let (spawning, about) = match config.spawner {
            SpawnerKind::Local => local(&config, &control)?,
            SpawnerKind::Kubernetes => kubernetes(&config, &control)?,
        };
        let app = App::bind(&config, control, spawning)?;
        print(&welcome(&app, &about))?;
        Ok(app.run()?)
    }
}

/// What a person is to know of how sessions run.
struct About {
    /// What they run as.
    run: String,
    /// What ends with the gateway.
    last: String,
}

/// Sessions as processes of this machine, and what a person is to know of them.
fn local(config: &Config, control: &Control) -> anyhow::Result<(Spawning, About)> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let local = LocalSpawner::open(local::Parts {
        config: config.local.clone(),
        services: config.services.clone(),
        program,
        environment: environment_of_services(),
        drain: control.drain().clone(),
    });
    let local = Arc::new(local.context("sessions cannot be run on this machine")?);
    let about = About {
        run: "as processes of this machine".to_owned(),
        last: format!(
            "Their files are in {}. Ctrl-C ends it, sessions included.",
            local.folder().display()
        ),
    };
    Ok((Spawning::of(local), about))
}

/// Sessions as pods of a cluster, and what a person is to know of them.
fn kubernetes(config: &Config, control: &Control) -> anyhow::Result<(Spawning, About)> {
    let connect = KubernetesSpawner::connect(
        config.kubernetes.clone(),
        config.services.clone(),
        control.drain().clone(),
    );
    let kubernetes = control
        .block_on(connect)
        .context("sessions cannot be run on a cluster")?;
    let about = About {
        run: format!("as pods of the cluster at {}", kubernetes.server()),
        last: "Ctrl-C ends the gateway; sessions go on.".to_owned(),
    };
    Ok((Spawning::of(Arc::new(kubernetes)), about))
}

/// What a person is told when everything is there: where to go, and what to know before others are let in.
fn welcome(app: &App, about: &About) -> String {
    let (address, admin) = (app.address(), app.admin_address());
    let id = app.session_to_open();
    let who = if address.ip().is_loopback() {
        "It listens on loopback only: programs and people of this machine can start and use sessions."
    } else {
        "It listens for other machines: whoever reaches this address can start and use sessions, and run commands."
    };
    format!(
        "session-gateway {version}\n\n  Open a session    {scheme}://{address}/{id}/\n  Operators' port   \
         http://{admin}/\n\nSessions run {run}, without authentication. {who}\n{last}\n",
        version = env!("CARGO_PKG_VERSION"),
        scheme = app.scheme(),
        run = about.run,
        last = about.last,
    )
}
