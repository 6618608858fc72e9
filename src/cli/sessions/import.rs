//! `session-gateway sessions import`.

use std::fmt::Write;

use anyhow::{Context, anyhow};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Output, Settings, table};
use crate::{
    app::Control,
    cli::{Failure, print},
    config::Config,
    session::{Reason, SessionId},
    settings::yaml,
    spawner::kubernetes::{Difference, KubernetesSpawner, Release},
};

/// List the sessions that the chart installed, or make them the gateway's own
///
/// For each session of a chart's release it says where its Ingress leads to and where it is at the gateway, and what of
/// its pod the gateway would make otherwise, by the configuration that is given here: give the gateway's own.
///
/// With --take-over the disk and all names stay. Helm's record of the release is removed, so that no later helm
/// uninstall deletes a living session, and its Deployment is deleted: what runs in it ends. The gateway makes the
/// session's pod at the next visit, and stops and removes it like any other. Whatever of this breaks off is gone on
/// with by the same command.
///
/// It is done with the permissions of the current kubeconfig; the gateway's own do not suffice.
#[derive(Debug, Args)]
pub(in crate::cli) struct Import {
    /// Sessions to act on
    #[arg(value_name = "ID")]
    ids: Vec<SessionId>,

    /// Act on all sessions that are listed
    #[arg(long, conflicts_with = "ids")]
    all: bool,

    /// Make them the gateway's own: each is interrupted once
    #[arg(long)]
    take_over: bool,

    /// Delete the Ingress objects of those that are the gateway's own
    #[arg(long)]
    remove_ingress: bool,

    /// How the answer is written: in columns for people, or for programs
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    settings: Settings,
}

/// What is told of one of them.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    release: Release,
    /// What would be different. Empty where something is done.
    differences: Vec<Difference>,
    done: Vec<String>,
}

impl Import {
    fn acts(&self) -> bool {
        self.take_over || self.remove_ingress
    }

    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        // Nobody is served by it, so nobody need be asked who they are.
        let sets = ["spawner=kubernetes", "auth.none_is_fine=true"];
        let config = self.settings.clone().load(sets.map(str::to_owned))?;
        if self.acts() && self.ids.is_empty() && !self.all {
            let error = "which sessions? Name them, or give --all; without --take-over and --remove-ingress all are listed";
            return Err(Failure::Usage(anyhow!(error)));
        }
        let control = Control::start()?;
        let text = control.block_on(self.answer(&config, &control))?;
        print(&text)
    }

    async fn answer(&self, config: &Config, control: &Control) -> anyhow::Result<String> {
        let spawner = KubernetesSpawner::connect(
            config.kubernetes.clone(),
            config.services.clone(),
            control.drain().clone(),
        );
        let spawner = Box::pin(spawner)
            .await
            .context("the cluster cannot be asked")?;
        let mut releases = spawner
            .releases()
            .await
            .map_err(|error| told(&error.reason))?;
        if !self.ids.is_empty() {
            for id in &self.ids {
                let is_listed = releases.iter().any(|release| release.id == *id);
                if !is_listed {
                    return Err(anyhow!("the chart has installed no session {id}"));
                }
            }
            releases.retain(|release| self.ids.contains(&release.id));
        }
        let mut lines = Vec::new();
        for release in releases {
            let id = release.id;
            let line = self.act(&spawner, release).await;
            lines.push(line.with_context(|| format!("session {id}"))?);
        }
        Ok(self.shown(&lines))
    }

    /// Does what was asked for with one of them, or compares it.
    async fn act(&self, spawner: &KubernetesSpawner, release: Release) -> anyhow::Result<Line> {
        let id = release.id;
        let mut line = Line {
            release,
            differences: vec![],
            done: vec![],
        };
        if !self.acts() && !line.release.taken {
            line.differences = spawner
                .differences(&line.release)
                .await
                .map_err(|error| told(&error.reason))?;
        }
        if self.take_over && !line.release.taken {
            spawner
                .take_over(id)
                .await
                .map_err(|error| told(&error.reason))?;
            let done =
                "taken over: its next visit starts it, and so does session-gateway sessions start";
            line.done.push(done.to_owned());
        }
        if self.remove_ingress {
            let removed = spawner
                .remove_ingresses(id)
                .await
                .map_err(|error| told(&error.reason))?
                .into_iter();
            line.done
                .extend(removed.map(|name| format!("Ingress {name} deleted")));
        }
        Ok(line)
    }

    fn shown(&self, lines: &[Line]) -> String {
        match self.output {
            Output::Table => lines.iter().map(Line::text).collect::<Vec<_>>().join("\n"),
            Output::Json => format!("{:#}\n", json!(lines)),
            Output::Yaml => yaml::text(&json!(lines)),
        }
    }
}

impl Line {
    /// As people read it.
    fn text(&self) -> String {
        let release = &self.release;
        let state = if release.taken {
            "the gateway's own already"
        } else {
            "of the chart"
        };
        let mut text = format!(
            "{}  {state}, project {}, user {}\n",
            release.id, release.project, release.user
        );
        let addresses = release.addresses.iter().map(|address| {
            let to = address
                .to
                .as_deref()
                .unwrap_or("nothing: there is no such service");
            [format!("  {}", address.from), format!("-> {to}")]
        });
        let differences = self.differences.iter().map(|one| {
            let gateway = one
                .gateway
                .as_ref()
                .map_or_else(|| "nothing".to_owned(), brief);
            [
                format!("  {}", one.field),
                format!("{} -> {gateway}", brief(&one.release)),
            ]
        });
        text += &table::columns(&addresses.chain(differences).collect::<Vec<_>>());
        for done in &self.done {
            let _ = writeln!(text, "  {done}");
        }
        text
    }
}

/// What went wrong, with the cluster's own words.
fn told(reason: &Reason) -> anyhow::Error {
    match reason.detail() {
        Some(detail) => anyhow!("{reason}: {detail}"),
        None => anyhow!("{reason}"),
    }
}

/// A value in a line.
fn brief(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
