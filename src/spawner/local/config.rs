//! Section `local` of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::session::Plan;
use crate::settings::Section;

/// How sessions run on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalConfig {
    /// The folder of workspaces and records.
    pub data: PathBuf,
    /// How long processes may take to end before they are killed.
    pub grace: Duration,
    /// What is run for each service, by its name. A service that is not here runs the demo of its name.
    pub services: BTreeMap<String, Command>,
    /// By its name, what each profile runs for each service.
    pub profiles: BTreeMap<Arc<str>, BTreeMap<String, Command>>,
}

/// What is run for one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments: one string at least.
    pub command: Vec<String>,
    /// Added to its environment.
    pub env: BTreeMap<String, String>,
    /// Where it runs, if not in the session's workspace itself.
    pub cwd: Option<PathBuf>,
}

impl LocalConfig {
    /// Reads the section. `data` stays empty if it is not set.
    #[must_use]
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            data: section.string("data").into(),
            grace: section.duration("grace"),
            services: services(section),
            profiles: BTreeMap::new(),
        }
    }

    /// Reads what a profile runs, from the whole configuration with the profile on top.
    #[must_use]
    pub fn profile(merged: &mut Section<'_>) -> BTreeMap<String, Command> {
        merged.section("local", services).unwrap_or_default()
    }

    /// What is run for each service by the profile of this name; `None` if there is none.
    #[must_use]
    pub fn by(&self, profile: &str) -> Option<&BTreeMap<String, Command>> {
        let default = (profile == Plan::DEFAULT_PROFILE).then_some(&self.services);
        self.profiles.get(profile).or(default)
    }

    /// The name of this profile that all who are told it share; `None` if there is none of this name.
    #[must_use]
    pub fn shared_name(&self, profile: &str) -> Option<Arc<str>> {
        let found = self.profiles.get_key_value(profile);
        found.map(|(name, _)| Arc::clone(name))
    }
}

fn services(section: &mut Section<'_>) -> BTreeMap<String, Command> {
    let all = section.sections("services", |name, service| {
        (name.to_owned(), Command::read(service))
    });
    all.into_iter().collect()
}

impl Command {
    fn read(section: &mut Section<'_>) -> Self {
        let command = Self {
            command: section.strings("command"),
            env: section
                .optional("env", Section::string_map)
                .unwrap_or_default(),
            cwd: section.optional("cwd", Section::string).map(PathBuf::from),
        };
        let program = command
            .command
            .first()
            .is_some_and(|program| !program.is_empty());
        section.check(&["command"], program, || {
            "is empty; expected a program and its arguments, such as [npm, run, dev]".to_owned()
        });
        for name in command.env.keys() {
            let variable = !name.is_empty() && !name.contains(['=', '\0']);
            section.check(&["env"], variable, || {
                format!("{name:?} cannot be the name of an environment variable")
            });
        }
        command
    }
}
