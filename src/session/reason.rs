//! Why a session, or one service of it, is not there.

use std::{fmt, sync::Arc, time::Duration};

use super::Limit;

/// Why a session or one of its services cannot be reached. A closed list: pages, the API and metrics name each by
/// its [`code`](Self::code).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The program of a service ended.
    #[error("the service ended by itself, {status}")]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote, oldest first.
        output: Arc<str>,
    },
    /// The program of a service ended, but processes it had started were still there; they were ended.
    #[error(
        "the service's main program ended, {status}, and left processes behind, which were ended"
    )]
    Abandoned {
        /// How the main program ended.
        status: ExitStatus,
        /// The last lines it wrote, oldest first.
        output: Arc<str>,
    },
    /// The program of a service cannot be run at all.
    #[error("the service's command cannot be run")]
    Unrunnable {
        /// The operating system's words, with the command's name.
        error: Arc<str>,
    },
    /// The service runs, and nothing accepts connections on its port.
    #[error("nothing listens on port {port} after {}", humantime::format_duration(*.after))]
    NotListening {
        /// The port.
        port: u16,
        /// How long it was waited for.
        after: Duration,
    },
    /// The session's disk or folder cannot be made or used.
    #[error("the session's workspace cannot be used")]
    Storage {
        /// The operating system's words, with the path.
        error: Arc<str>,
    },
    /// The image of the container cannot be had.
    #[error("the session's image cannot be fetched")]
    Image {
        /// The cluster's words.
        error: Arc<str>,
    },
    /// No machine of the cluster takes the session.
    #[error("no machine has room for the session at present")]
    Unschedulable {
        /// The cluster's words, with the resource that is missing.
        error: Arc<str>,
    },
    /// The container cannot be made as it is configured.
    #[error("the session's container cannot be started")]
    Container {
        /// The cluster's words.
        error: Arc<str>,
    },
    /// The container used more memory than it may.
    #[error("the session used more memory than it may, and was ended, {status}")]
    OutOfMemory {
        /// How it ended.
        status: ExitStatus,
    },
    /// The cluster ended what ran the session, and does not start it again by itself.
    #[error("the cluster ended what ran the session")]
    Evicted {
        /// The cluster's words.
        error: Arc<str>,
    },
    /// A Secret that the session needs is not there.
    #[error("a secret that the session needs is missing")]
    Secret {
        /// Which one, and where it was looked for.
        error: Arc<str>,
    },
    /// The cluster does not allow what was asked of it: a quota, a policy, or missing rights.
    #[error("the cluster refuses to start the session")]
    Refused {
        /// The cluster's words.
        error: Arc<str>,
    },
    /// Something of the session's name is there that is not this gateway's to touch.
    #[error("the session's place in the cluster belongs to something else")]
    Foreign {
        /// What it is.
        error: Arc<str>,
    },
    /// Something that has to go first does not.
    #[error("the session's old {what} has not been removed yet")]
    Terminating {
        /// What it is.
        what: &'static str,
    },
    /// The platform knows no such project.
    #[error("there is no such project")]
    NoProject,
    /// The platform names a profile that is not configured.
    #[error("the session is to be made by the profile {name:?}, and there is none of that name")]
    NoProfile {
        /// Its name.
        name: Arc<str>,
    },
    /// The platform does not say what the session is made from.
    #[error("the platform does not say at present what the session is made from")]
    Unresolved {
        /// What it does instead.
        error: Arc<str>,
    },
    /// There may be no more sessions, or no more starts, for now.
    #[error(transparent)]
    Limited(#[from] Limit),
    /// What runs sessions cannot be reached, or does not take orders now.
    #[error("sessions cannot be started at present")]
    Unavailable {
        /// What it said.
        error: Arc<str>,
    },
    /// The start ended without an answer: a defect of the gateway.
    #[error("the start broke off inside the gateway")]
    Internal,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By returning this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Reason {
    /// Its stable name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Exited { .. } => "service_exited",
            Self::Abandoned { .. } => "service_abandoned",
            Self::Unrunnable { .. } => "command_unrunnable",
            Self::NotListening { .. } => "port_not_listening",
            Self::Storage { .. } => "workspace_unusable",
            Self::Image { .. } => "image_unavailable",
            Self::Unschedulable { .. } => "unschedulable",
            Self::Container { .. } => "container_unstartable",
            Self::OutOfMemory { .. } => "out_of_memory",
            Self::Evicted { .. } => "evicted",
            Self::Secret { .. } => "secret_missing",
            Self::Refused { .. } => "cluster_refused",
            Self::Foreign { .. } => "not_ours",
            Self::Terminating { .. } => "still_terminating",
            Self::NoProject => "no_such_project",
            Self::NoProfile { .. } => "no_such_profile",
            Self::Unresolved { .. } => "resolver_failed",
            Self::Limited(limit) => limit.code(),
            Self::Unavailable { .. } => "spawner_unavailable",
            Self::Internal => "start_broke_off",
        }
    }

    /// Whether the next start may do better though nobody has done anything about it.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Unresolved { .. }
                | Self::Terminating { .. }
                | Self::Limited(_)
        )
    }

    /// Whether what was said is what a program wrote.
    #[must_use]
    pub fn is_of_a_program(&self) -> bool {
        matches!(self, Self::Exited { .. } | Self::Abandoned { .. })
    }

    /// What the program or the operating system said, if anything: lines for the operator.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        let text = match self {
            Self::Exited { output, .. } | Self::Abandoned { output, .. } => output,
            Self::Unrunnable { error }
            | Self::Storage { error }
            | Self::Image { error }
            | Self::Unschedulable { error }
            | Self::Container { error }
            | Self::Evicted { error }
            | Self::Secret { error }
            | Self::Refused { error }
            | Self::Foreign { error }
            | Self::Unresolved { error }
            | Self::Unavailable { error } => error,
            Self::NotListening { .. }
            | Self::OutOfMemory { .. }
            | Self::Terminating { .. }
            | Self::NoProject
            | Self::NoProfile { .. }
            | Self::Limited(_)
            | Self::Internal => return None,
        };
        (!text.is_empty()).then_some(&**text)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}
