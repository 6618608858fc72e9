//! Both ends of a bench: the service behind the proxies, and the client before them. One thread and one epoll each, so
//! that their cost is small and known. The client prints one line of JSON.

use std::env;

mod backend;
mod client;
mod events;
mod poll;
mod slow;
mod times;
mod tls;

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let asked = || client::Asked::parse(&words[1..]);
    match words.first().map(String::as_str) {
        Some("backend") => backend::run(words.get(1)),
        Some("slow") => slow::run(&words[1..]),
        Some("client") => client::run(&asked()),
        Some("events") => events::run(&asked()),
        Some("tls") => tls::run(&asked()),
        _ => panic!(
            "load backend [PORT_FILE] | client|events|tls KEY=VALUE... | slow ADDRESS PATH COUNT"
        ),
    }
}
