//! The configuration: built-in defaults, then a file, then the environment, then the command line.
//!
//! Each module reads its own section; this one puts them together and checks what concerns several of them.

mod profiles;
mod services;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::activator::{IdleConfig, IdleConfigs, RetentionConfig, SpawnConfig};
use crate::admin::AdminConfig;
use crate::gateway::GatewayConfig;
use crate::resolver::ResolverConfig;
use crate::session::{Plan, Services};
use crate::settings::{self, Problem, Problems, Section};
use crate::shutdown::ShutdownConfig;
use crate::spawner::kubernetes::KubernetesConfig;
use crate::spawner::local::LocalConfig;
use crate::telemetry::LogConfig;

/// The built-in defaults: all keys there are, with what they mean.
pub const DEFAULT: &str = include_str!("config/default.yaml");

/// The services that run a built-in demo if they have no command.
const DEMOS: [&str; 3] = ["preview", "chat", "vscode"];

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients connect, and which of them are served.
    pub gateway: GatewayConfig,
    /// The services of every session.
    pub services: Services,
    /// When sessions are started, and how long requests wait for them.
    pub spawn: SpawnConfig,
    /// When sessions are stopped that nobody uses.
    pub idle: IdleConfigs,
    /// When sessions are removed that nobody uses.
    pub retention: RetentionConfig,
    /// What sessions are made from, where nobody says anything else.
    pub plan: Plan,
    /// Who is asked what they are made from.
    pub resolver: ResolverConfig,
    /// Where operators connect.
    pub admin: AdminConfig,
    /// What runs sessions.
    pub spawner: SpawnerKind,
    /// How sessions run on this machine.
    pub local: LocalConfig,
    /// How sessions run on Kubernetes.
    pub kubernetes: KubernetesConfig,
    /// What is logged, and how it is written.
    pub log: LogConfig,
    /// How the process ends.
    pub shutdown: ShutdownConfig,
}

/// What runs sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnerKind {
    /// Processes of this machine.
    Local,
    /// Pods of a cluster.
    Kubernetes,
}

/// Where settings come from besides the built-in defaults, each on top of the one before.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A YAML file.
    pub file: Option<PathBuf>,
    /// Environment variables, also those that set nothing; [`environment`] has those of the process.
    pub environment: Vec<(String, String)>,
    /// `KEY=VALUE` of the command line, each one of them or several with commas between.
    pub sets: Vec<String>,
}

/// The environment of this process. A value that is no Unicode has a sign in the place of what cannot be read, so that
/// it is refused like any other wrong value and not passed over.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value.to_string_lossy().into_owned()))
        })
        .collect()
}

/// The environment that services of local sessions inherit: all of this process's, as it is.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
pub fn environment_of_services() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

impl Config {
    /// Reads all sources.
    ///
    /// # Errors
    /// If the file cannot be read, or anything in any source is wrong.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let mut tree = sources::defaults()?;
        let mut problems: Vec<Problem> = Vec::new();
        let file = sources.file.as_deref().map(sources::file);
        let others = [
            sources::variables(&sources.environment),
            sources::flags(&sources.sets),
        ];
        // What can be read of one source is read, whatever is wrong with another: all is told at once.
        for source in file.into_iter().chain(others) {
            match source {
                Ok(layer) => tree.merge(layer),
                Err(wrong) => problems.extend([wrong]),
            }
        }
        let data = data_home(&sources.environment);
        let read = settings::read(tree.as_map(), |root| Self::read(root, data));
        match read {
            Ok(config) if problems.is_empty() => Ok(config),
            Ok(_) => Err(Problems::new(problems)),
            Err(wrong) => {
                problems.extend([wrong]);
                Err(Problems::new(problems))
            }
        }
    }

    /// The defaults with these `KEY=VALUE` settings on top, for tests and for programs that embed the gateway. Of the
    /// process's environment only the home folder counts.
    ///
    /// # Errors
    /// If a setting is wrong.
    pub fn with(settings: &[&str]) -> Result<Self, Problems> {
        let mut environment = environment();
        environment.retain(|(name, _)| !name.starts_with(sources::PREFIX));
        let sets = settings.iter().map(|&pairs| pairs.to_owned()).collect();
        Self::load(&Sources {
            file: None,
            environment,
            sets,
        })
    }

    /// Reads the merged tree. `data` is the default of `local.data`.
    fn read(root: &mut Section<'_>, data: Option<PathBuf>) -> Option<Self> {
        let gateway = GatewayConfig::read(root);
        let services = services::read(root);
        let spawn = root.section("spawn", SpawnConfig::read);
        let idle = root.section("idle", IdleConfig::read);
        let retention = root.section("retention", RetentionConfig::read);
        let project = root.section("project", id);
        let user = root.section("user", id);
        let resolver = root.section("resolver", ResolverConfig::read);
        let admin = root.section("admin", AdminConfig::read);
        let spawners = [
            ("local", SpawnerKind::Local),
            ("kubernetes", SpawnerKind::Kubernetes),
        ];
        let spawner = root.choice("spawner", &spawners);
        let local = root.section("local", LocalConfig::read);
        let kubernetes = KubernetesConfig::read(root);
        let profile = root.string("profile");
        let profiles = kubernetes.as_ref().map(|base| profiles::read(root, base));
        let log = root.section("log", LogConfig::read);
        let shutdown = root.section("shutdown", ShutdownConfig::read);
        let mut config = Self {
            gateway: gateway?,
            services: services?,
            spawn: spawn?,
            idle: IdleConfigs {
                base: idle?,
                profiles: BTreeMap::new(),
            },
            retention: retention?,
            plan: Plan {
                project: project?,
                user: user?,
                profile,
            },
            resolver: resolver?,
            admin: admin?,
            spawner,
            local: local?,
            kubernetes: kubernetes?,
            log: log?,
            shutdown: shutdown?,
        };
        for (name, profile) in profiles? {
            // One name for all who are told it.
            let name: Arc<str> = name.into();
            let (kubernetes, idle) = (profile.kubernetes?, profile.idle?);
            let others = &mut config.kubernetes.profiles;
            others.insert(Arc::clone(&name), kubernetes);
            let others = &mut config.local.profiles;
            others.insert(Arc::clone(&name), profile.local);
            config.idle.profiles.insert(name, idle);
        }
        config.check(root, data);
        Some(config)
    }

    /// The names of all profiles.
    #[must_use]
    pub fn profiles(&self) -> BTreeSet<String> {
        let named = self.kubernetes.profiles.keys().map(ToString::to_string);
        named.chain([Plan::default_profile()]).collect()
    }

    /// Checks what concerns several sections.
    fn check(&mut self, root: &mut Section<'_>, data: Option<PathBuf>) {
        let (listen, admin) = (self.gateway.listen, self.admin.listen);
        root.check(&["listen", "admin.listen"], !overlap(listen, admin), || {
            format!(
                "clients and operators cannot share port {}; give listen or admin.listen another",
                listen.port()
            )
        });
        let has_token = !self.admin.token_file.as_os_str().is_empty();
        let open = !admin.ip().is_loopback() && !has_token && !self.gateway.none_is_fine;
        root.check(&["admin.listen", "auth.none_is_fine"], !open, || {
            format!(
                "other machines may reach {admin}, and operators are not asked who they are: whoever comes starts, \
                 stops and deletes sessions. Listen on 127.0.0.1, give admin.token_file a file with a token, or set \
                 auth.none_is_fine to true if that is fine"
            )
        });
        profiles::check(root, &self.plan.profile, &self.profiles());
        match self.spawner {
            SpawnerKind::Local => self.check_local(root, data),
            SpawnerKind::Kubernetes => {
                self.kubernetes.check(root, &self.services);
                let fine = self.gateway.none_is_fine;
                root.check(&["auth.none_is_fine", "spawner"], fine, || {
                    "nobody is asked who they are: whoever reaches the gateway starts pods in the cluster and uses all \
                     sessions. Set auth.none_is_fine to true if that is fine"
                        .to_owned()
                });
            }
        }
    }

    /// Checks what sessions on this machine need.
    fn check_local(&mut self, root: &mut Section<'_>, data: Option<PathBuf>) {
        if self.local.data.as_os_str().is_empty() {
            root.check(&["local.data"], data.is_some(), || {
                "is empty, and so is $HOME; set it to a folder for workspaces and records"
                    .to_owned()
            });
            self.local.data = data.unwrap_or_default();
        }
        let names: Vec<&str> = self
            .services
            .iter()
            .map(|(_, spec)| spec.name.as_str())
            .collect();
        let named = self.local.services.keys();
        let named = named.map(|name| (name, format!("local.services.{name}")));
        let profiles = self.local.profiles.iter().flat_map(|(profile, services)| {
            let own = services
                .keys()
                .filter(|name| !self.local.services.contains_key(*name));
            own.map(move |name| (name, format!("profiles.{profile}.local.services.{name}")))
        });
        for (name, key) in named.chain(profiles) {
            root.check(&[&key], names.contains(&name.as_str()), || {
                format!(
                    "no such service; expected one of those in service: {}",
                    names.join(", ")
                )
            });
        }
        for name in names {
            let runs = DEMOS.contains(&name) || self.local.services.contains_key(name);
            root.check(&[&format!("service.{name}"), &format!("local.services.{name}")], runs, || {
                format!(
                    "nothing runs this service; set local.services.{name}.command to a program and its arguments, such \
                     as [npm, run, dev]"
                )
            });
        }
    }
}

/// Whether two listeners would meet: on one port, at one address or at all of them.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (here, there) = (one.ip(), other.ip());
    let meet = here == there || here.is_unspecified() || there.is_unspecified();
    one.port() != 0 && one.port() == other.port() && meet
}

/// The id in `project` or `user`. It becomes an environment variable of the session's processes.
fn id(section: &mut Section<'_>) -> String {
    let id = section.string("id");
    section.check(&["id"], !id.is_empty() && !id.contains('\0'), || {
        "is empty; expected an id, such as 42".to_owned()
    });
    id
}

/// Where programs keep the data of this user.
fn data_home(environment: &[(String, String)]) -> Option<PathBuf> {
    let folder = |name: &str| {
        let found = environment.iter().find(|(other, _)| other == name);
        // The specification of XDG_DATA_HOME: a relative path is to be ignored.
        found
            .map(|(_, value)| PathBuf::from(value))
            .filter(|path| path.is_absolute())
    };
    let home = folder("XDG_DATA_HOME").or_else(|| Some(folder("HOME")?.join(".local/share")))?;
    Some(home.join("session-gateway"))
}

#[cfg(test)]
mod tests;
