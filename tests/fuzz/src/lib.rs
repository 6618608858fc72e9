//! What the targets share: the services of a session, and reading a head as plainly as can be.

use http::{HeaderMap, HeaderName, HeaderValue};
use session_gateway::session::{
    Activity, HostHeader, OriginHeader, Prefix, ServiceSpec, Services, SessionId,
};

/// A session.
pub const ID: &str = "3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f";

const _: () = assert!(ID.len() == SessionId::LEN);

/// One service of each kind; of two paths the one begins as the other does.
#[must_use]
pub fn services() -> Services {
    let spec = |name: &str, prefix, host, origin| ServiceSpec {
        name: name.to_owned(),
        port: 3000,
        path: format!("/{name}"),
        prefix,
        host,
        origin,
        activity: Activity::default(),
    };
    let (keep, strip) = (Prefix::Keep, Prefix::Strip);
    Services::new(vec![
        spec("a", keep, HostHeader::Localhost, OriginHeader::Rewrite),
        spec("ab", strip, HostHeader::Public, OriginHeader::Pass),
    ])
    .expect("they are valid")
}

/// The fields of lines `name: value`; those that are none are left out.
#[must_use]
pub fn fields(lines: &[u8]) -> HeaderMap {
    let field = |line: &[u8]| {
        let colon = line.iter().skip(1).position(|byte| *byte == b':')? + 1;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(&line[colon + 1..]).ok()?))
    };
    lines
        .split(|byte| *byte == b'\n')
        .filter_map(field)
        .collect()
}

/// A head as it is written: the first line, then its fields.
#[must_use]
pub fn written(first: &str, fields: &HeaderMap) -> Vec<u8> {
    let mut bytes = format!("{first}\r\n").into_bytes();
    for (name, value) in fields {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    bytes
}
