//! The PROXY protocol, both versions: a balancer says whose connection it passes on, before the first byte of it.

use std::{io, net::IpAddr, time::Duration};

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream, time::sleep};

/// The longest header that is read: that of version 1 has 107 bytes, one of version 2 some fields of its own.
const LONGEST: usize = 536;
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
        if have != before {
            match ProxyHeader::parse(&bytes[..have], ParseConfig::default()) {
                Ok((header, length)) => {
                    let address = header
                        .proxied_address()
                        .map(|proxied| proxied.source.ip().to_canonical());
                    stream.read_exact(&mut bytes[..length]).await?;
                    return Ok(address);
                }
                Err(Error::BufferTooShort) if have < LONGEST => {}
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        before = have;
        sleep(AGAIN).await;
    }
}
