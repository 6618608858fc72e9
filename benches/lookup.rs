//! What it costs to find a session: the right to send to one that runs, taken and given back, as each request does.
//!
//! `lookup SESSIONS` prints the nanoseconds of one, the median of several passes over all sessions in random order.
#![expect(
    clippy::print_stdout,
    reason = "a program of its own, and this is what it says"
)]

use std::{hint::black_box, net::SocketAddr};

use session_gateway::{
    activator::{Fact, InstanceUid, Observed, Table},
    session::{Activity, HostHeader, OriginHeader, Prefix, ServiceSpec, Services, SessionId},
};
use tokio::time::Instant;
use uuid::Uuid;

/// Lookups of a pass, at least: the clock is read around all of them.
const LOOKUPS: usize = 100_000;
const PASSES: usize = 21;

fn main() {
    let count = std::env::args().find_map(|word| word.parse().ok());
    let count: usize = count.expect("lookup SESSIONS");
    let service = ServiceSpec {
        name: "preview".into(),
        port: 3000,
        path: "/preview".into(),
        prefix: Prefix::Keep,
        host: HostHeader::Public,
        origin: OriginHeader::Pass,
        activity: Activity::Requests,
    };
    let services = Services::new(vec![service]).expect("one service is no conflict");
    let service = services.named("preview").expect("it is there");
    let (table, _to_probe) = Table::new();
    let mut ids: Vec<_> = (0..count).map(|_| SessionId::random()).collect();
    for &id in &ids {
        let uid = InstanceUid(Uuid::new_v4());
        let address = SocketAddr::from(([127, 0, 0, 1], 3000));
        assert!(table.apply(Fact::Saw(id, Observed::new(uid, vec![address]))));
        assert!(table.apply(Fact::Open(id, uid, service)));
    }
    // Not in the order in which their memory was taken: that would be in the processor's cache.
    ids.sort_by_cached_key(|_| Uuid::new_v4());
    let rounds = LOOKUPS.div_ceil(count);
    let mut passes = [0.0; PASSES];
    for pass in &mut passes {
        let begun = Instant::now();
        for _ in 0..rounds {
            for &id in &ids {
                let lease = table.running(black_box(id), service);
                assert!(lease.is_some_and(|lease| lease.instance().session() == id));
            }
        }
        *pass = begun.elapsed().as_secs_f64() * 1e9 / (rounds * count) as f64;
    }
    passes.sort_by(f64::total_cmp);
    println!("{{\"ns\": {:.1}}}", passes[PASSES / 2]);
}
