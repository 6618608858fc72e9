//! `session-gateway sessions`: asks a running gateway over its admin API.

mod api;
mod table;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::{Failure, Settings, print};
use crate::session::SessionId;
use api::Api;

/// List, show, start and stop sessions of a running gateway
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List all sessions
    List {
        #[command(flatten)]
        options: Options,
    },
    /// Show one session and its services
    Show {
        #[command(flatten)]
        one: One,
    },
    /// Start a session, or do nothing if it runs
    Start {
        #[command(flatten)]
        one: One,
    },
    /// Stop a session; its workspace is kept
    Stop {
        #[command(flatten)]
        one: One,
    },
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
    /// How the answer is written: in columns for people, or as JSON for programs
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Output::Table)]
    output: Output,

    /// IP address and port of the admin API [default: admin.listen of the configuration]
    #[arg(long, value_name = "ADDRESS", value_parser = super::address)]
    admin: Option<std::net::SocketAddr>,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (call, options) = match self {
            Self::List { options } => (Call::List, options),
            Self::Show { one } => (Call::Show(one.id), one.options),
            Self::Start { one } => (Call::Start(one.id), one.options),
            Self::Stop { one } => (Call::Stop(one.id), one.options),
        };
        let admin = match options.admin {
            Some(admin) => admin,
            None => options.settings.load(None)?.admin.listen,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        let text = runtime.block_on(call.run(&Api::new(admin), options.output))?;
        print(&text)
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Call {
    List,
    Show(SessionId),
    Start(SessionId),
    Stop(SessionId),
}

impl Call {
    /// What is to be printed.
    async fn run(self, api: &Api, output: Output) -> anyhow::Result<String> {
        let answer = match self {
            Self::List => Value::Array(api.list().await?),
            Self::Show(id) => api.show(id).await?,
            Self::Start(id) => api.start(id).await?,
            Self::Stop(id) => api.stop(id).await?,
        };
        // JSON is handed on as it came, with all that a newer gateway may tell.
        if output == Output::Json {
            return Ok(serde_json::to_string_pretty(&answer)? + "\n");
        }
        let text = match self {
            Self::List => {
                serde_json::from_value(answer).map(|sessions: Vec<_>| table::list(&sessions))
            }
            Self::Show(_) | Self::Start(_) | Self::Stop(_) => {
                serde_json::from_value(answer).map(|session| table::show(&session))
            }
        };
        text.context("the admin API answered something that is no session")
    }
}
