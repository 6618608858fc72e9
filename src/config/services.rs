//! Section `service` of the configuration. It is read here, since `session` knows no settings.

use crate::session::{
    Activity, HostHeader, InputRule, OriginHeader, Prefix, ServiceSpec, Services, ServicesError,
};
use crate::settings::Section;

/// Reads the section from the whole configuration.
pub(super) fn read(root: &mut Section<'_>) -> Option<Services> {
    let specs = root.sections("service", spec);
    match Services::new(specs) {
        Ok(services) => Some(services),
        Err(error) => {
            let keys = match &error {
                ServicesError::SamePath(one, other, _) => [other, one]
                    .map(|name| format!("service.{name}.path"))
                    .to_vec(),
                ServicesError::Empty | ServicesError::TooMany(_) => vec!["service".to_owned()],
            };
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            root.check(&keys, false, || error.to_string());
            None
        }
    }
}

fn spec(name: &str, section: &mut Section<'_>) -> ServiceSpec {
    let prefixes = [("keep", Prefix::Keep), ("strip", Prefix::Strip)];
    let hosts = [
        ("public", HostHeader::Public),
        ("localhost", HostHeader::Localhost),
    ];
    let origins = [
        ("pass", OriginHeader::Pass),
        ("rewrite", OriginHeader::Rewrite),
    ];
    section.check(&[], is_label(name), || {
        format!("expected a name of up to 30 lower-case letters, digits and hyphens, such as web-term; found {name:?}")
    });
    let spec = ServiceSpec {
        name: name.to_owned(),
        port: section.integer("port", 1..=u16::MAX),
        path: section
            .optional("path", Section::string)
            .unwrap_or_else(|| format!("/{name}")),
        prefix: section
            .optional("prefix", |section, key| section.choice(key, &prefixes))
            .unwrap_or(Prefix::Strip),
        host: section
            .optional("host", |section, key| section.choice(key, &hosts))
            .unwrap_or(HostHeader::Public),
        origin: section
            .optional("origin", |section, key| section.choice(key, &origins))
            .unwrap_or(OriginHeader::Pass),
        activity: activity(section),
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

fn activity(section: &mut Section<'_>) -> Activity {
    let kinds = [
        ("requests", Activity::Requests),
        ("open", Activity::Open),
        ("input", Activity::Input(InputRule::default())),
    ];
    let activity = section.optional("activity", |section, key| section.choice(key, &kinds));
    let usual = InputRule::default();
    let rule = InputRule {
        bytes: section
            .optional("input_bytes", |section, key| {
                section.integer(key, 0..=u8::MAX)
            })
            .unwrap_or(usual.bytes),
        frames: section
            .optional("input_frames", |section, key| {
                section.integer(key, 1..=10_000)
            })
            .unwrap_or(usual.frames),
        output: section
            .optional("output_counts", Section::bool)
            .unwrap_or(usual.output),
    };
    match activity.unwrap_or_default() {
        Activity::Input(_) => Activity::Input(rule),
        other => other,
    }
}

/// Whether Kubernetes takes it for a part of a name that has the session's id in front.
pub(super) fn is_label(name: &str) -> bool {
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
