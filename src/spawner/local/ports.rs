//! Free ports for services.
//!
//! A service is told its port before it listens there, so between the two anybody could take it. Three things keep
//! that rare and harmless: ports are taken below the range that the kernel gives to outgoing connections, at random,
//! and never one that a session of this gateway still has, whether its service lives or not. A dead service's port
//! must not become another session's, or the one's requests would reach the other.

use std::{
    collections::HashSet,
    fs, io,
    net::TcpListener,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use uuid::Uuid;

/// Below this are the well-known services of a machine.
const FIRST: u16 = 10_000;
/// Where outgoing connections begin if the kernel does not say.
const EPHEMERAL: u16 = 32_768;
/// How many are tried before a machine counts as full.
const TRIES: usize = 1000;

/// The ports that sessions of this gateway have.
#[derive(Debug)]
pub(super) struct Ports {
    range: Range<u16>,
    taken: Mutex<HashSet<u16>>,
}

impl Ports {
    pub(super) fn new() -> Self {
        let ephemeral = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
        let ephemeral = ephemeral
            .and_then(|range| range.split_whitespace().next()?.parse().ok())
            .unwrap_or(EPHEMERAL);
        let range = if ephemeral > FIRST + 1000 {
            FIRST..ephemeral
        } else {
            FIRST..u16::MAX
        };
        Self {
            range,
            taken: Mutex::default(),
        }
    }

    /// So many free ports of 127.0.0.1, the caller's until it gives them back.
    pub(super) fn take(&self, count: usize) -> io::Result<Vec<u16>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ports = Vec::with_capacity(count);
        for _ in 0..TRIES {
            if ports.len() == count {
                break;
            }
            let port = self.random();
            if !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
                taken.insert(port);
                ports.push(port);
            }
        }
        if ports.len() < count {
            for port in &ports {
                taken.remove(port);
            }
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "no free port on 127.0.0.1",
            ));
        }
        Ok(ports)
    }

    pub(super) fn give_back(&self, ports: impl IntoIterator<Item = u16>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for port in ports {
            taken.remove(&port);
        }
    }

    fn random(&self) -> u16 {
        let width = u64::from(self.range.end - self.range.start);
        let (random, _) = Uuid::new_v4().as_u64_pair();
        self.range.start + u16::try_from(random % width).expect("less than the range's width")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_sessions_until_it_is_given_back() {
        let mut ports = Ports::new();
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        ports.range = port..port + 1;
        assert!(ports.take(1).is_err(), "somebody listens there");
        drop(held);
        assert_eq!(ports.take(1).unwrap(), [port]);
        assert!(ports.take(1).is_err(), "a session has it");
        ports.give_back([port]);
        assert_eq!(ports.take(1).unwrap(), [port]);
    }
}
