//! Where a session stands.

use std::sync::Arc;

use serde::Serialize;
use tokio::time::Instant;

use super::{Course, Reason};

/// What the durable record says of a session that has no running instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// There is no record of it: it never ran here.
    #[default]
    Absent,
    /// It was stopped on purpose.
    Stopped,
    /// It should run, and what ran it is gone.
    Vanished,
}

/// Where a session stands as seen by one service of it. Computed, never stored: [`crate::activator::phase`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nothing runs and nothing is being started.
    Idle(Found),
    /// It is being started, or runs without this service's port accepting yet.
    Starting {
        /// What is being waited for.
        stage: Stage,
        /// Since when.
        since: Instant,
        /// How many starts come to their turn before it, and itself, while it waits for its own.
        position: Option<usize>,
        /// What it has waited for so far, where that was seen from here.
        course: Option<Arc<Course>>,
    },
    /// The start, or this service, failed and is not tried again before `retry_at`.
    Failed(Failure),
    /// Its instance is being ended.
    Ending,
    /// This service accepts connections.
    Running,
}

/// What a start is waiting for, in order. Which of them there are depends on what runs sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Its turn among other starts.
    Queue,
    /// The end of what was there of it before.
    Former,
    /// Its namespace, and what is in it before anything runs.
    Namespace,
    /// Its workspace.
    Disk,
    /// A machine that has room for it.
    Schedule,
    /// Its image, and its container.
    Pull,
    /// Its processes.
    Process,
    /// The service's port.
    Port,
}

/// A start, or a service, that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Arc<Reason>,
    /// When a request may try again by itself; a person may at once.
    pub retry_at: Instant,
    /// How many times in a row, from 1.
    pub attempts: u32,
    /// Whether it may be over without anybody's doing: a page looks again by itself.
    pub passes: bool,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Queue,
        Self::Former,
        Self::Namespace,
        Self::Disk,
        Self::Schedule,
        Self::Pull,
        Self::Process,
        Self::Port,
    ];

    /// Its stable name for programs and pages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Former => "former",
            Self::Namespace => "namespace",
            Self::Disk => "disk",
            Self::Schedule => "schedule",
            Self::Pull => "pull",
            Self::Process => "process",
            Self::Port => "port",
        }
    }

    /// What a person reads.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Queue => "Waiting for a free place",
            Self::Former => "Waiting for the end of what was there before",
            Self::Namespace => "Making the session's place in the cluster",
            Self::Schedule => "Finding a machine with room",
            Self::Pull => "Fetching the image and starting the container",
            Self::Disk => "Preparing the workspace",
            Self::Process => "Starting the service",
            Self::Port => "Waiting for the service to answer",
        }
    }
}

impl Phase {
    /// Its stable name for programs and pages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle(Found::Absent) => "absent",
            Self::Idle(Found::Stopped) => "stopped",
            Self::Idle(Found::Vanished) => "vanished",
            Self::Starting { .. } => "starting",
            Self::Failed(_) => "failed",
            Self::Ending => "stopping",
            Self::Running => "running",
        }
    }
}
