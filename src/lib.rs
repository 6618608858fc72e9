//! session-gateway: one address in front of all dev sessions, which starts a session on its first request.
//!
//! Two kinds of thread. *Workers*, one per core, each a single-threaded runtime with its own listener on the shared
//! port and its own connections to services: they carry bytes, and await nothing but sockets and notifications.
//! *Control*, one runtime: spawner, probes, admin API, everything that waits for others. A start never delays a byte.
//!
//! A request is one straight line on its worker ([`gateway`]); each step takes what the last one returned:
//!
//! ```text
//! gateway::listener        accept; one tracked task per connection
//! gateway::connection      limits; PROXY header, TLS, HTTP/1.1 (our own) or HTTP/2, all within timeouts.handshake
//! Gateway::handle          answer, or turn the error into one (gateway::answer)
//!   Route::parse           raw path -> session, service, rest | our own page or API        else 404
//!   Gateway::enter
//!     headers::admit         framing, Host, target, upgrade: what makes a request unfit      else 4xx, close
//!     Guard::check           host, origin, fetch metadata -> Grant                           else 4xx
//!   Gateway::forward       our own pages and API have left before this point: gateway::own
//!     Gateway::reach         Activator::running, at once; else Gateway::wait, as this intent may; connect
//!     headers::prepare       hop-by-hop off, forwarding headers on, prefix kept or stripped
//!     Upstream::send         this worker's pool for this instance; one retry where it is safe  else 502, 504
//!     Gateway::hand_back     headers::scrub; the lease goes into the body, or into tunnel::join after a 101
//! ```
//!
//! A start is another straight line, in its own task on control, so that a client that leaves cannot cancel it:
//!
//! ```text
//! Activator::begin         one per session and replica: Fact::Begun is the single flight
//!   Resolver::plan           project, user, profile                                   unknown project: never
//!   Queue::turn              so many at a time, one user after the other
//!   Spawner::ensure          the only seam between proxying and what runs sessions
//!   probe::until_open        a connect from here, per service, from 25 ms on
//!   every waiter of a service wakes when its own port answers, or with the reason why not
//! ```
//!
//! What is known of sessions has one writer, `Table::apply(fact)`. What a session's state *is* and what a request
//! *gets* are two pure functions: [`activator::phase()`] and [`activator::verdict()`].
//!
//! Imports point one way, held by `tests/rules.rs`: `session <- activator <- gateway, spawner, admin <- app <- cli`.
//!
//! - [`session`]: the vocabulary, pure. [`settings`]: reading configuration, of any kind.
//! - [`activator`]: the life of sessions: holds requests while one starts, stops and removes those that nobody uses;
//!   the table, the probes, the traits of the seam.
//! - [`gateway`]: the request line. [`pages`]: what people see. [`admin`]: the operators' port.
//! - [`resolver`]: asks the platform what a new session is made from.
//! - [`spawner`]: what runs sessions, on this machine or in a cluster. [`demo`]: the services of local sessions without
//!   commands of their own.
//! - [`app`]: the composition root. [`cli`], [`config`], [`telemetry`], [`metrics`], [`client`], [`shutdown`].

pub mod activator;
pub mod gateway;
pub mod metrics;
pub mod pages;
pub mod session;
pub mod settings;
pub mod shutdown;

// What no fuzz target reaches is not compiled for them: it is two thirds of the time.
#[cfg(not(fuzzing))]
pub mod admin;
#[cfg(not(fuzzing))]
pub mod app;
#[cfg(not(fuzzing))]
pub mod cli;
#[cfg(not(fuzzing))]
pub mod client;
#[cfg(not(fuzzing))]
pub mod config;
#[cfg(not(fuzzing))]
pub mod demo;
#[cfg(not(fuzzing))]
pub mod resolver;
#[cfg(not(fuzzing))]
pub mod spawner;
#[cfg(not(fuzzing))]
pub mod telemetry;
