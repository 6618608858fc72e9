//! The services that run when no commands are configured: preview, chat and vscode, each a process of its own.
//!
//! The local spawner starts them as `session-gateway demo NAME`, like any operator's command: what a service knows
//! of its session comes from [`Environment`], and it ends at SIGTERM. They also run by hand:
//! `PORT=3000 session-gateway demo preview` serves the current folder.

use std::{error::Error, io, io::Write, net::SocketAddr, time::Duration};

use axum::Router;
use tokio::{
    net::TcpListener,
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use crate::shutdown::{Drain, Ending, Stage};

mod chat;
mod environment;
mod guard;
mod page;
mod preview;
mod vscode;
mod workspace;

pub use environment::{Environment, EnvironmentError};

/// How long open sockets and streams may take to say goodbye. They are told at once and have nothing to finish, so
/// this is only for a client that does not read.
const GOODBYE: Duration = Duration::from_millis(500);

/// A built-in service, by the name it has in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demo {
    /// The workspace's files, reloaded in the browser when one changes.
    Preview,
    /// A chat without a model.
    Chat,
    /// code-server where a working one is installed, else a small editor.
    Vscode {
        /// Do not look for code-server.
        builtin: bool,
    },
}

/// Runs one built-in service until SIGTERM or SIGINT; its address is the first line on stdout.
///
/// Open websockets and event streams are closed and do not keep it. When code-server takes over, this process
/// becomes code-server and the call does not return.
/// # Errors
/// The workspace cannot be made or read, or the port is not free.
pub async fn run(demo: Demo, environment: Environment) -> io::Result<()> {
    let ending = Ending::new();
    let drain = ending.drain(Handle::current());
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let workspace = workspace::Workspace::open(&environment.workspace)?;
    if demo == (Demo::Vscode { builtin: false }) {
        tokio::select! {
            () = &mut stop => return Ok(()),
            failed = vscode::code_server::take_over(&environment, workspace.root()) => {
                if let Some(unfit) = failed {
                    let cause = unfit.source().map_or_else(String::new, |cause| format!(" ({cause})"));
                    writeln!(io::stderr().lock(), "{unfit}{cause}: the built-in editor runs instead")?;
                }
            }
        }
    }
    let listener = TcpListener::bind((environment.host, environment.port)).await?;
    let address = listener.local_addr()?;
    let router = match demo {
        Demo::Preview => preview::router(&environment, workspace, &drain)?,
        Demo::Chat => chat::router(&environment, workspace, &drain),
        Demo::Vscode { .. } => vscode::editor::router(&environment, workspace, &drain),
    };
    announce(address, demo, &environment)?;
    serve(
        listener,
        guard::own_port(router, address.port()),
        stop,
        &ending,
        &drain,
    )
    .await
}

/// Resolves at the first SIGTERM or SIGINT; the handlers are in place when this returns.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Says where a person can open the service; preview alone is reached under its public path.
fn announce(address: SocketAddr, demo: Demo, environment: &Environment) -> io::Result<()> {
    let path = match demo {
        Demo::Preview => environment.base_path.as_str(),
        Demo::Chat | Demo::Vscode { .. } => "",
    };
    writeln!(io::stdout().lock(), "listening on http://{address}{path}/")
}

async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    ending: &Ending,
    drain: &Drain,
) -> io::Result<()> {
    let draining = drain.clone();
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(async move { draining.reached(Stage::Draining).await })
        .into_future();
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return ended,
        () = stop => ending.advance(Stage::Draining),
    }
    let deadline = Instant::now() + GOODBYE;
    // Past the deadline the process ends anyway: what is left is a client that does not read.
    let _ = tokio::time::timeout_at(deadline, server).await;
    ending.advance(Stage::Ended);
    drain.finish(deadline).await;
    Ok(())
}
