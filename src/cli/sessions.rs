//! `session-gateway sessions`: asks a running gateway over its admin API.

mod api;
mod import;
mod table;
mod watch;

use std::{
    io::{self, BufRead, IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::{Failure, Settings, print};
use crate::{session::SessionId, settings::yaml};
use api::{Api, Filter};

const AFTER_HELP: &str = "\
The gateway is asked over its admin API, at admin.listen of the configuration or at --admin. In a
cluster: kubectl port-forward deployment/session-gateway 8001

Exit codes: 0 done; 1 failed; 2 wrong usage or configuration, and nothing was asked; 3 the admin API
cannot be reached; 4 there is no such session.";

/// List, show, explain, start, keep, stop, delete, watch and import sessions
#[derive(Debug, Subcommand)]
#[command(after_help = AFTER_HELP)]
pub(super) enum Command {
    /// List sessions, by id
    List {
        #[command(flatten)]
        filter: Filter,

        #[command(flatten)]
        options: Options,
    },
    /// Show one session and its services
    Show {
        #[command(flatten)]
        one: One,
    },
    /// Tell why a session is not there: every condition, and which of them it waits for
    Explain {
        #[command(flatten)]
        one: One,
    },
    /// Start a session, or what has failed of it; returns at once
    Start {
        #[command(flatten)]
        one: One,
    },
    /// Count as use of a session, and take back that it will be stopped
    Keep {
        #[command(flatten)]
        one: One,
    },
    /// Stop a session; its workspace is kept
    Stop {
        #[command(flatten)]
        one: One,
    },
    /// Delete a session with its workspace
    Delete {
        /// Do not ask whether that is meant; needed where there is no terminal to ask on
        #[arg(long, short)]
        yes: bool,

        #[command(flatten)]
        one: One,
    },
    /// Show sessions, and then whatever changes of them, until Ctrl-C
    Watch {
        /// One session alone, by its UUID
        #[arg(value_name = "ID")]
        id: Option<SessionId>,

        #[command(flatten)]
        options: Options,
    },
    Import(import::Import),
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The session's UUID
    #[arg(value_name = "ID")]
    id: SessionId,

    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// How the answer is written: in columns for people, or as JSON or YAML for programs
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Output::Table)]
    output: Output,

    /// IP address and port of the admin API [default: admin.listen of the configuration]
    #[arg(long, value_name = "ADDRESS", value_parser = super::address)]
    admin: Option<SocketAddr>,

    /// File with the token of the admin API [default: admin.token_file of the configuration, without --admin]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    Yaml,
}

/// What is asked for.
enum Call {
    List(Filter),
    Show(SessionId),
    Explain(SessionId),
    Start(SessionId),
    Keep(SessionId),
    Stop(SessionId),
    Delete(SessionId),
    Watch(Option<SessionId>),
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (call, options) = match self {
            Self::List { filter, options } => (Call::List(filter), options),
            Self::Show { one } => (Call::Show(one.id), one.options),
            Self::Explain { one } => (Call::Explain(one.id), one.options),
            Self::Start { one } => (Call::Start(one.id), one.options),
            Self::Keep { one } => (Call::Keep(one.id), one.options),
            Self::Stop { one } => (Call::Stop(one.id), one.options),
            Self::Delete { one, yes } => {
                if !yes {
                    ask(one.id)?;
                }
                (Call::Delete(one.id), one.options)
            }
            Self::Watch { id, options } => (Call::Watch(id), options),
            Self::Import(import) => return import.run(),
        };
        let output = options.output;
        let api = options.api()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        runtime.block_on(call.run(&api, output))
    }
}

impl Options {
    fn api(self) -> Result<Api, Failure> {
        let (admin, token) = match self.admin {
            Some(admin) => (admin, self.token_file),
            None => {
                let admin = self.settings.load(None)?.admin;
                let own = Some(admin.token_file).filter(|path| !path.as_os_str().is_empty());
                (admin.listen, self.token_file.or(own))
            }
        };
        let token = token.map(|path| {
            let text = std::fs::read_to_string(&path);
            text.with_context(|| format!("the token in {} cannot be read", path.display()))
        });
        let token = token.transpose().map_err(Failure::Usage)?;
        Api::new(admin, token.as_deref().map(str::trim)).map_err(Failure::Usage)
    }
}

/// Asks whether a session is meant to be deleted.
fn ask(id: SessionId) -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(anyhow!(
            "this deletes session {id} with all its files, and there is no terminal to ask on whether that is meant: \
             --yes says so"
        )));
    }
    // What is asked is no part of the answer.
    let asked = write!(
        io::stderr().lock(),
        "Delete session {id} with all its files? [y/N] "
    );
    asked.context("cannot ask")?;
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    read.context("cannot read the answer")?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Run(anyhow!("nothing was deleted"))),
    }
}

impl Call {
    async fn run(self, api: &Api, output: Output) -> Result<(), Failure> {
        let answer = match &self {
            Self::List(filter) => Value::Array(api.list(filter).await?),
            Self::Show(id) => api.show(*id).await?,
            Self::Explain(id) => api.explain(*id).await?,
            Self::Start(id) => api.act(*id, "start").await?,
            Self::Keep(id) => api.act(*id, "keep").await?,
            Self::Stop(id) => api.act(*id, "stop").await?,
            Self::Delete(id) => api.delete(*id).await?,
            Self::Watch(id) => return watch::run(api, *id, output).await,
        };
        print(&self.text(&answer, output)?)?;
        match self.missing(&answer) {
            Some(id) => Err(Failure::Missing(anyhow!("there is no session {id}"))),
            None => Ok(()),
        }
    }

    /// What is to be printed.
    fn text(&self, answer: &Value, output: Output) -> anyhow::Result<String> {
        // What it is made of is handed on as it came, with all that a newer gateway may tell.
        match output {
            Output::Json => return Ok(serde_json::to_string_pretty(answer)? + "\n"),
            Output::Yaml => return Ok(yaml::text(answer)),
            Output::Table => {}
        }
        let text = match self {
            Self::List(filter) => serde_json::from_value(answer.clone()).map(|sessions: Vec<_>| {
                if filter.unused {
                    table::unused(&sessions)
                } else {
                    table::list(&sessions)
                }
            }),
            Self::Explain(_) => {
                serde_json::from_value(answer.clone()).map(|told| table::explain(&told))
            }
            Self::Delete(id) => Ok(match answer["deleted"] {
                Value::Bool(true) => format!("session {id} is deleted\n"),
                _ => String::new(),
            }),
            Self::Show(_) | Self::Start(_) | Self::Keep(_) | Self::Stop(_) | Self::Watch(_) => {
                serde_json::from_value(answer.clone()).map(|session| table::show(&session))
            }
        };
        text.context("the admin API answered something that is no session")
    }

    /// The session that somebody meant, and that is not there.
    fn missing(&self, answer: &Value) -> Option<SessionId> {
        let (id, is_missing) = match self {
            Self::Show(id) | Self::Keep(id) | Self::Stop(id) => (id, answer["state"] == "absent"),
            Self::Delete(id) => (id, answer["deleted"] == false),
            Self::List(_) | Self::Explain(_) | Self::Start(_) | Self::Watch(_) => return None,
        };
        is_missing.then_some(*id)
    }
}
