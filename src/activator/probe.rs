//! Readiness: a connect from here, for each service by itself.
//!
//! The table names the ports that are to be probed; each is connected to until it accepts, and the table is told.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use super::{
    fact::Fact,
    table::{Table, ToProbe},
};
use crate::{
    session::Reason,
    shutdown::{Drain, Stage},
};

/// First pause between two connects: half of what a port's first byte may take (40 ms in the median).
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// Longest pause: somebody may still wait for a service that has not answered for minutes.
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// After this many pauses' worth of waiting, the next pause: a port that was waited for ten seconds is asked every
/// 100 ms, so that its first byte comes at most one per cent later than it could.
const PATIENCE: u32 = 100;
/// A connect that takes longer is given up. Within a machine or a cluster an open port answers in milliseconds.
const CONNECT: Duration = Duration::from_secs(1);

/// Finds out whether a port accepts connections.
pub trait Probe: Send + Sync + 'static {
    /// Connects once and hangs up.
    ///
    /// # Errors
    /// If nothing accepts.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<()>>;
}

/// The probe of production: a TCP connect.
pub struct TcpProbe;

impl Probe for TcpProbe {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            timeout(CONNECT, TcpStream::connect(address)).await??;
            Ok(())
        })
    }
}

/// Probes what the table asks for until the process ends; `late` is `spawn.timeout`.
pub(super) async fn run(
    table: Arc<Table>,
    mut ports: mpsc::UnboundedReceiver<ToProbe>,
    probe: Arc<dyn Probe>,
    late: Duration,
    drain: Drain,
) {
    loop {
        let port = tokio::select! {
            port = ports.recv() => port,
            () = drain.reached(Stage::Ended) => None,
        };
        let Some(port) = port else { return };
        let (table, probe, end) = (Arc::clone(&table), Arc::clone(&probe), drain.clone());
        drain.spawn("probe", async move {
            tokio::select! {
                () = until_open(&table, &*probe, &port, late) => {}
                () = port.instance.ended() => {}
                () = end.reached(Stage::Ended) => {}
            }
        });
    }
}

/// Connects until the port accepts or another program has taken its place.
async fn until_open(table: &Table, probe: &dyn Probe, port: &ToProbe, late: Duration) {
    let ToProbe {
        instance,
        service,
        round,
    } = port;
    let (id, uid, service) = (instance.session(), instance.uid(), *service);
    let address = instance.address(service);
    let begun = Instant::now();
    let mut told = false;
    while instance.round(service) == *round {
        if probe.connect(address).await.is_ok() {
            table.apply(Fact::Open(id, uid, service));
            return;
        }
        let waited = begun.elapsed();
        if waited >= late && !told {
            told = true;
            let reason = Arc::new(Reason::NotListening {
                port: address.port(),
                after: late,
            });
            if table.apply(Fact::Late(id, uid, service, Arc::clone(&reason))) {
                warn!(session = %id, code = reason.code(), %reason, "service does not answer");
            }
        }
        sleep((waited / PATIENCE).clamp(FIRST_PAUSE, LAST_PAUSE)).await;
    }
}
