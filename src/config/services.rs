//! Section `service` of the configuration. It is read here, since `session` knows no settings.

use crate::session::{HostHeader, OriginHeader, Prefix, ServiceSpec, Services};
use crate::settings::Section;

/// Reads the section from the whole configuration.
pub(super) fn read(root: &mut Section<'_>) -> Option<Services> {
    let specs = root.sections("service", spec);
    match Services::new(specs) {
        Ok(services) => Some(services),
        Err(error) => {
            root.check(&["service"], false, || error.to_string());
            None
        }
    }
}

fn spec(name: &str, section: &mut Section<'_>) -> ServiceSpec {
    section.check(&[], is_label(name), || {
        format!("{name:?} is no name of a service; expected up to 30 lower-case letters, digits and hyphens, such as web-term")
    });
    let spec = ServiceSpec {
        name: name.to_owned(),
        port: section.integer("port", 1..=u16::MAX),
        path: if section.has("path") {
            section.string("path")
        } else {
            format!("/{name}")
        },
        prefix: match section.has("prefix") {
            true => section.choice(
                "prefix",
                &[("keep", Prefix::Keep), ("strip", Prefix::Strip)],
            ),
            false => Prefix::Strip,
        },
        host: match section.has("host") {
            true => section.choice(
                "host",
                &[
                    ("public", HostHeader::Public),
                    ("localhost", HostHeader::Localhost),
                ],
            ),
            false => HostHeader::Public,
        },
        origin: match section.has("origin") {
            true => section.choice(
                "origin",
                &[
                    ("pass", OriginHeader::Pass),
                    ("rewrite", OriginHeader::Rewrite),
                ],
            ),
            false => OriginHeader::Pass,
        },
    };
    section.check(&["path"], is_path(&spec.path), || {
        format!(
            "expected one slash and then letters, digits, hyphens, dots, underscores or tildes, such as /{name}; /- is \
             the gateway's own; found {:?}",
            spec.path
        )
    });
    spec
}

/// Whether Kubernetes takes it for a part of a name that has the session's id in front.
fn is_label(name: &str) -> bool {
    (1..=30).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether every client sends it as it is: one segment of characters that nobody encodes or resolves.
fn is_path(path: &str) -> bool {
    let segment = path.strip_prefix('/').unwrap_or_default();
    !matches!(segment, "" | "-" | "." | "..")
        && segment
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
}
