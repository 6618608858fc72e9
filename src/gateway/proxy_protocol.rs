//! The PROXY protocol, both versions: a balancer says whose connection it passes on, before the first byte of it.

use std::{io, net::IpAddr, time::Duration};

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream, time::sleep};

/// The longest header that is read: that of version 1 has 107 bytes, one of version 2 some fields of its own.
pub(super) const LONGEST: usize = 536;
/// The longest one of version 1, which is a line (section 2.1).
const LONGEST_LINE: usize = 107;
/// Between two looks at a header that has not come whole. Balancers send it at once.
pub(super) const AGAIN: Duration = Duration::from_millis(5);

/// Takes the header off the connection. `None` if the balancer speaks for itself, as its health checks do. Waits as
/// long as the caller lets it.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut bytes = [0; LONGEST];
    let mut before = 0;
    loop {
        let have = stream.peek(&mut bytes).await?;
        // All that came was looked at, so nothing more after the end of the other side.
        if have == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if have != before
            && let Some((length, address)) = look(&bytes[..have])?
        {
            stream.read_exact(&mut bytes[..length]).await?;
            return Ok(address);
        }
        before = have;
        sleep(AGAIN).await;
    }
}

/// Reads what has come: how long the header is and whose connection it announces. `None` if more of it is to come.
pub(super) fn look(bytes: &[u8]) -> io::Result<Option<(usize, Option<IpAddr>)>> {
    match ProxyHeader::parse(bytes, ParseConfig::default()) {
        // The parser takes any byte for the first space, and a line of any length if all of it is there.
        Ok((_, length))
            if bytes[0] == b'P' && (!bytes.starts_with(b"PROXY ") || length > LONGEST_LINE) =>
        {
            Err(io::ErrorKind::InvalidData.into())
        }
        Ok((header, length)) => {
            let address = header
                .proxied_address()
                .map(|proxied| proxied.source.ip().to_canonical());
            Ok(Some((length, address)))
        }
        Err(Error::BufferTooShort) if bytes.len() < LONGEST => Ok(None),
        Err(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How it was cut must not matter: a header is refused at each length, or whole at one.
    #[test]
    fn a_header_is_read_strictly_and_the_same_however_it_comes() {
        let address = Some(IpAddr::from([203, 0, 113, 7]));
        let long = |length: usize| format!("PROXY UNKNOWN{}\r\n", " ".repeat(length - 15));
        let v2 = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        for (header, expected) in [
            (
                "PROXY TCP4 203.0.113.7 10.0.0.1 4096 443\r\n",
                Some(address),
            ),
            ("PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", Some(address)),
            ("PROXY UNKNOWN\r\n", Some(None)),
            (&long(107), Some(None)),
            (v2, Some(None)),
            (&long(108), None),
            ("PROXY_UNKNOWN\r\n", None),
            ("PROXY\tTCP4 203.0.113.7 10.0.0.1 4096 443\r\n", None),
            ("PROXY TCP4 ::1 ::1 1 2\r\n", None),
            ("PROXY UDP4 1.1.1.1 1.1.1.1 1 2\r\n", None),
            ("GET / HTTP/1.1\r\nhost: x\r\n", None),
        ] {
            let bytes = format!("{header}GET / HTTP/1.1\r\n\r\n").into_bytes();
            let whole = look(&bytes).ok().flatten();
            let found = whole.map(|(length, address)| (length == header.len()).then_some(address));
            assert_eq!(found, expected.map(Some), "{header:?}");
            for cut in 0..header.len() {
                let early = look(&bytes[..cut]);
                let fits = if whole.is_some() {
                    matches!(early, Ok(None))
                } else {
                    !matches!(early, Ok(Some(_)))
                };
                assert!(fits, "{header:?} at {cut}: {early:?}");
            }
        }
    }
}
