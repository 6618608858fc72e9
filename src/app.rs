//! The composition root: everything is built here, in reading order, and ended here, in order.
//!
//! At SIGTERM or SIGINT: not ready; after `shutdown.delay` no new connections; requests in flight finish, within
//! `shutdown.grace`; websockets end; what still runs is cut off; local sessions end; the process ends. A second signal
//! skips the grace.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::Context;
use tokio::{
    runtime::{Builder, LocalOptions, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    activator::{self, Activator, DefaultPlan, Inspect, Resolver, Spawner, StartWatcher, TcpProbe},
    admin::Admin,
    config::Config,
    gateway::{self, Code, Shared, Tls},
    metrics::Metrics,
    resolver::RemoteResolver,
    session::SessionId,
    shutdown::{Drain, Ending, ShutdownConfig, Stage},
};

/// Threads of the control runtime: what waits for others is little work, and one thread that is busy must not keep
/// the rest from being looked at.
const CONTROL_THREADS: usize = 2;
/// How long the last tasks of control may take once everything else has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What runs sessions, and tells people of them.
pub struct Spawning {
    /// Runs them.
    pub spawner: Arc<dyn Spawner>,
    /// Tells of them.
    pub inspect: Arc<dyn Inspect>,
}

impl Spawning {
    /// Both by one.
    #[must_use]
    pub fn of(sessions: Arc<impl Spawner + Inspect>) -> Self {
        Self {
            spawner: Arc::clone(&sessions) as _,
            inspect: sessions,
        }
    }
}

/// The runtime for all that is not a byte of somebody's request, with the stages of its end.
pub struct Control {
    runtime: Runtime,
    ending: Ending,
    drain: Drain,
}

/// The whole program, serving.
pub struct App {
    control: Control,
    spawning: Spawning,
    activator: Arc<Activator>,
    address: SocketAddr,
    admin: SocketAddr,
    shutdown: ShutdownConfig,
    scheme: &'static str,
    workers: Vec<Worker>,
}

/// Every port, open.
struct Ports {
    listeners: Vec<TcpListener>,
    admin: TcpListener,
    address: SocketAddr,
    admin_address: SocketAddr,
}

struct Worker {
    thread: thread::JoinHandle<()>,
    drain: Drain,
}

impl Control {
    /// # Errors
    /// If the operating system gives no threads.
    pub fn start() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("control")
            .enable_all()
            .build()
            .context("cannot start the control runtime")?;
        let ending = Ending::new();
        let drain = ending.drain(runtime.handle().clone());
        Ok(Self {
            runtime,
            ending,
            drain,
        })
    }

    /// Runs a future of the program's beginning on this runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The tasks of this runtime.
    #[must_use]
    pub fn drain(&self) -> &Drain {
        &self.drain
    }
}

impl App {
    /// Opens every port, then serves on them. When it returns, connections are accepted.
    ///
    /// # Errors
    /// If a port cannot be opened; then nothing was started.
    pub fn bind(config: &Config, control: Control, spawning: Spawning) -> anyhow::Result<Self> {
        let tls = Tls::open(&config.gateway.tls).context("invalid tls.certificates")?;
        let Ports {
            listeners,
            admin,
            address,
            admin_address,
        } = Ports::open(config)?;
        let metrics = Metrics::new(&config.services, config.gateway.workers, &Code::NAMES);
        let _entered = control.runtime.enter();
        let activator = Activator::begin_watch(activator::Parts {
            spawner: Arc::clone(&spawning.spawner),
            inspect: Arc::clone(&spawning.inspect),
            resolver: resolver(config, &control.drain)?,
            probe: Arc::new(TcpProbe),
            watcher: Arc::clone(&metrics) as Arc<dyn StartWatcher>,
            config: config.spawn.clone(),
            idle: config.idle.clone(),
            retention: config.retention.clone(),
            drain: control.drain.clone(),
        });
        let shared = Arc::new(Shared {
            activator: Arc::clone(&activator),
            services: config.services.clone(),
            config: config.gateway.clone(),
            shutdown: config.shutdown,
            tls: tls.clone(),
            connections: Arc::default(),
            metrics: Arc::clone(&metrics),
        });
        if let Some(tls) = &tls {
            let follow = Arc::clone(tls).follow(control.drain.clone());
            control.drain.spawn("certificates", follow);
        }
        let drain = control.drain.clone();
        let admin = Admin::new(
            &activator,
            &spawning.inspect,
            &config.services,
            metrics,
            drain,
        )
        .serve(admin, &config.admin.token_file);
        control
            .drain
            .spawn("admin", admin.context("cannot serve the admin API")?);
        let workers = listeners
            .into_iter()
            .enumerate()
            .map(|(number, listener)| Worker::start(number, listener, &shared, &control))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            control,
            spawning,
            activator,
            address,
            admin: admin_address,
            shutdown: config.shutdown,
            scheme: if tls.is_some() { "https" } else { "http" },
            workers,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its URLs begin with: `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Where the admin API is.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// What leads requests to sessions.
    #[must_use]
    pub fn activator(&self) -> &Arc<Activator> {
        &self.activator
    }

    /// The session used last, to be opened again, or a new one. Waits a second at most for what runs sessions.
    #[must_use]
    pub fn session_to_open(&self) -> SessionId {
        let listed = self
            .control
            .runtime
            .block_on(async { timeout(LAST_WORDS, self.spawning.inspect.list(None, 1000)).await });
        let listed = listed.map(Result::unwrap_or_default).unwrap_or_default();
        let last = listed.into_iter().max_by_key(|listed| listed.seen.used);
        last.map_or_else(SessionId::random, |listed| listed.id)
    }

    /// Serves until SIGTERM or SIGINT, then ends in order.
    ///
    /// # Errors
    /// If signals cannot be waited for.
    pub fn run(self) -> anyhow::Result<()> {
        let entered = self.control.runtime.enter();
        let mut signals = Signals::listen().context("cannot wait for signals")?;
        drop(entered);
        self.control.runtime.block_on(signals.next());
        info!("ending: finishing what runs; a second signal cuts it off");
        self.stop(async move { signals.next().await });
        Ok(())
    }

    /// Ends in order; `hurry` cuts the grace off.
    pub fn stop(self, hurry: impl Future<Output = ()>) {
        let Control {
            runtime,
            ending,
            drain,
        } = self.control;
        ending.advance(Stage::Unready);
        let left = runtime.block_on(async {
            let finish = async {
                sleep(self.shutdown.delay).await;
                ending.advance(Stage::Draining);
                let deadline = Instant::now() + self.shutdown.grace;
                let mut left = 0;
                for worker in &self.workers {
                    left += worker.drain.finish(deadline).await;
                }
                left
            };
            tokio::select! {
                left = finish => left,
                () = hurry => 0,
            }
        });
        if left > 0 {
            warn!(left, "connections cut off at the end of the grace");
        }
        ending.advance(Stage::Ended);
        for worker in self.workers {
            // A worker that panicked has said so.
            let _ = worker.thread.join();
        }
        runtime.block_on(async {
            self.spawning.spawner.close().await;
            drain.finish(Instant::now() + LAST_WORDS).await;
        });
        runtime.shutdown_timeout(LAST_WORDS);
    }
}

/// Who says what new sessions are made from.
fn resolver(config: &Config, drain: &Drain) -> anyhow::Result<Arc<dyn Resolver>> {
    let default = config.plan.clone();
    let Some(url) = config.resolver.url.clone() else {
        return Ok(Arc::new(DefaultPlan(default)));
    };
    let asks = (config.resolver.clone(), url);
    let remote = RemoteResolver::new(asks, default, config.profiles(), drain.clone());
    Ok(Arc::new(remote.context("the resolver cannot be asked")?))
}

impl StartWatcher for Metrics {
    fn started(&self, well: bool, took: Duration) {
        Self::started(self, well, took);
    }
}

impl Ports {
    fn open(config: &Config) -> anyhow::Result<Self> {
        let listen = config.gateway.listen;
        let listeners = gateway::bind(listen, config.gateway.workers).with_context(|| {
            format!(
                "cannot listen on {listen} (is another gateway running? listen sets the address)"
            )
        })?;
        let listen = config.admin.listen;
        let admin = TcpListener::bind(listen).with_context(|| {
            format!("cannot listen on {listen} (admin.listen sets the address)")
        })?;
        let address = listeners[0]
            .local_addr()
            .context("the listener has no address")?;
        let admin_address = admin
            .local_addr()
            .context("the admin listener has no address")?;
        Ok(Self {
            listeners,
            admin,
            address,
            admin_address,
        })
    }
}

impl Worker {
    fn start(
        number: usize,
        listener: TcpListener,
        shared: &Arc<Shared>,
        control: &Control,
    ) -> anyhow::Result<Self> {
        let drain = control.ending.drain(control.runtime.handle().clone());
        let (shared, own) = (Arc::clone(shared), drain.clone());
        let (started, outcome) = mpsc::channel();
        let serve = move || {
            // A worker's runtime cannot leave its thread, so it is made there.
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(()));
            if let Err(error) = runtime.block_on(gateway::serve(listener, shared, number, own)) {
                error!(worker = number, %error, "worker ended");
            }
        };
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(serve);
        let thread = thread.context("cannot start a worker")?;
        outcome
            .recv()
            .context("a worker ended at once")?
            .context("cannot start a worker's runtime")?;
        Ok(Self { thread, drain })
    }
}

/// The signals that ask for the end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
