//! Bodies of any size, both ways, in bounded memory.

use super::*;
use crate::support::{
    Way,
    kept::{Sent, nothing},
    tls::Localhost,
};

/// Bytes of which every chunk is a part: no two chunks near each other are the same.
fn pattern() -> Bytes {
    let mut state = 1_u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..CHUNK + PERIOD).map(next).collect::<Vec<_>>().into()
}

/// After how many chunks the first comes again.
const PERIOD: usize = 1021;

/// The chunk of this number.
fn chunk(pattern: &Bytes, number: usize) -> Bytes {
    let from = number % PERIOD;
    pattern.slice(from..from + CHUNK)
}

fn body(pattern: Bytes, count: usize) -> Sent {
    let frames = (0..count).map(move |number| Ok(Frame::data(chunk(&pattern, number))));
    BodyExt::boxed(StreamBody::new(stream::iter(frames)))
}

/// Reads to the end and compares every byte; how many there were.
async fn read(pattern: &Bytes, mut body: hyper::body::Incoming) -> usize {
    let mut read = 0;
    while let Some(frame) = timeout(DEADLINE, body.frame()).await.expect("it goes on") {
        let data = frame.expect("it is whole").into_data().expect("bytes");
        let mut rest = &data[..];
        while !rest.is_empty() {
            let expected = chunk(pattern, read / CHUNK).slice(read % CHUNK..);
            let (now, later) = rest.split_at(expected.len().min(rest.len()));
            assert!(now == &expected[..now.len()], "another byte after {read}");
            read += now.len();
            rest = later;
        }
    }
    read
}

/// The most memory this process ever had resident, in KiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// 64 MiB, or 1 GiB, up and down, each byte compared, while memory stays flat. Client and service are in this process
/// as well.
async fn passes_both_ways(way: Way) {
    let count = if long() { 16 * 1024 } else { 1024 };
    let pattern = pattern();
    let own = pattern.clone();
    let service = Service::new(move |request| {
        let pattern = own.clone();
        async move {
            if request.method() == http::Method::GET {
                return Response::new(body(pattern, count));
            }
            text(read(&pattern, request.into_body()).await.to_string())
        }
    })
    .await;
    let localhost = Localhost::new();
    let files = localhost.settings();
    let settings: Vec<&str> = files.iter().map(String::as_str).collect();
    let settings = if way.is_tls() { &settings[..] } else { &[] };
    let gateway = Gateway::with(service.address, settings);
    let path = format!("/{}/vscode/large", gateway.runs().await);
    let mut kept = way.connect(gateway.address, &localhost).await.unwrap();
    let before = peak();

    let request = kept.ask("GET", &path).body(nothing()).unwrap();
    let down = kept.send(request).await.unwrap().into_body();
    assert_eq!(read(&pattern, down).await, count * CHUNK);

    let request = kept.ask("PUT", &path).body(body(pattern.clone(), count));
    let answer = kept.send_long(request.unwrap()).await.unwrap().into_body();
    let up = answer.collect().await.unwrap().to_bytes();
    assert_eq!(up, (count * CHUNK).to_string());

    let grown = peak() - before;
    assert!(
        grown < 16 * 1024,
        "{grown} KiB more for {} MiB",
        (count * CHUNK) >> 20
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_both_ways_in_bounded_memory() {
    passes_both_ways(Way::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_both_ways_in_bounded_memory_over_tls_and_http2() {
    passes_both_ways(Way::Tls2).await;
}
