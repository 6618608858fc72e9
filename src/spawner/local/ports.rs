//! Free ports on 127.0.0.1, each had by one service of one session.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    ops::RangeInclusive,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as Name, UnixDatagram},
    },
    sync::Arc,
};

use tokio::net::TcpSocket;
use uuid::Uuid;

/// The lowest port that is given: below lie the ports that development servers take by default.
const LOWEST: u16 = 20_000;
/// What Linux does by default, where it does not say.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

/// The ports this gateway gives. Cheap to clone.
///
/// Never from the range the kernel takes the ports of outgoing connections from: one of those would sit on a service's
/// port between our look and the service's bind, or while the service is restarted.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    candidates: Arc<[u16]>,
}

/// A port that no other service of any gateway gets while this lives: not even when this one's program is dead, or
/// requests for one session would reach another.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    /// Bound to the port's name among the abstract addresses (unix(7)). Like the ports, these are those of a network
    /// namespace; the kernel frees one with the socket, however the gateway ends.
    _name: UnixDatagram,
}

impl Ports {
    /// Looks up the kernel's range. Blocks for a moment.
    pub(super) fn of_this_machine() -> Self {
        let ephemeral = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
            .ok()
            .and_then(|text| parse_range(&text))
            .unwrap_or(EPHEMERAL);
        let outside = |port: &u16| !ephemeral.contains(port);
        let mut candidates: Vec<u16> = (LOWEST..=u16::MAX).filter(outside).collect();
        if candidates.is_empty() {
            candidates = (LOWEST..=u16::MAX).collect();
        }
        Self {
            candidates: candidates.into(),
        }
    }

    /// A port that nothing listens on.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn free(&self) -> io::Result<Port> {
        // From a random place on: a port that was had a moment ago is seldom the next.
        let count = self.candidates.len();
        let from =
            usize::from_le_bytes(Uuid::new_v4().as_bytes()[..8].try_into().expect("8 bytes"));
        let from = from % count;
        for number in (from..from + count).map(|at| self.candidates[at % count]) {
            match Port::reserve(number) {
                Ok(port) if port.is_free() => return Ok(port),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        let all = format!("all {count} ports for services are taken");
        Err(io::Error::new(io::ErrorKind::AddrInUse, all))
    }
}

impl Port {
    /// Takes a port from all other gateways, whatever else may listen on it.
    fn reserve(number: u16) -> io::Result<Self> {
        let name = Name::from_abstract_name(format!("session-gateway/port/{number}"))?;
        Ok(Self {
            number,
            _name: UnixDatagram::bind_addr(&name)?,
        })
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.number).into()
    }

    /// Whether it can be bound without SO_REUSEADDR, as the plainest service would: also an old connection of it keeps
    /// it taken for a minute.
    fn is_free(&self) -> bool {
        TcpSocket::new_v4().is_ok_and(|socket| socket.bind(self.address()).is_ok())
    }
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    Some(first.parse().ok()?..=last.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// The ports of a gateway that gives no others.
    fn of(candidates: &[u16]) -> Ports {
        Ports {
            candidates: candidates.into(),
        }
    }

    #[tokio::test]
    async fn a_port_is_given_once_by_all_gateways_while_it_is_had_and_not_while_it_is_in_use() {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let numbers = listeners
            .each_ref()
            .map(|it| it.local_addr().unwrap().port());
        let [ports, others] = [of(&numbers), of(&numbers)];
        assert!(ports.free().is_err());
        let [_kept, second, third] = listeners;
        drop((second, third));
        let had = [ports.free().unwrap(), others.free().unwrap()];
        let mut given = had.each_ref().map(Port::number);
        given.sort_unstable();
        let mut expected = [numbers[1], numbers[2]];
        expected.sort_unstable();
        assert_eq!(given, expected);
        for gateway in [&ports, &others] {
            assert!(gateway.free().is_err());
        }
        drop(had);
        assert!(ports.free().is_ok());
    }

    #[test]
    fn the_ports_of_outgoing_connections_are_not_given() {
        assert_eq!(parse_range("32768\t60999\n"), Some(EPHEMERAL));
        assert_eq!(parse_range("nonsense"), None);
        let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let ephemeral = parse_range(&text).unwrap();
        let ports = Ports::of_this_machine();
        assert!(!ports.candidates.iter().any(|port| ephemeral.contains(port)));
    }
}
