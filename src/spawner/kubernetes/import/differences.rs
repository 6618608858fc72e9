//! What a pod has that another would not have, or have otherwise.

use serde_json::Value;

use super::Difference;

/// By which field the items of a list are told apart, if they have it.
const KEYS: [&str; 3] = ["name", "mountPath", "key"];
/// What has the values of variables, which may be secret.
const VARIABLES: &str = ".env.";
/// What is shown instead.
const HIDDEN: &str = "(not shown)";

/// The fields of `release` that `gateway` has otherwise or not at all. What the other has alone is no loss.
pub(super) fn differences(release: &Value, gateway: &Value) -> Vec<Difference> {
    let mut all = Vec::new();
    compare("", release, Some(gateway), &mut all);
    all
}

fn compare(field: &str, release: &Value, gateway: Option<&Value>, all: &mut Vec<Difference>) {
    let below = |name: &str| match field {
        "" => name.to_owned(),
        field => format!("{field}.{name}"),
    };
    match (release, gateway) {
        (Value::Object(fields), Some(Value::Object(ours))) => {
            for (name, value) in fields {
                compare(&below(name), value, ours.get(name), all);
            }
        }
        (Value::Array(items), Some(Value::Array(ours))) => {
            for (at, item) in items.iter().enumerate() {
                let (name, other) = match key(item) {
                    Some((key, name)) => (
                        name,
                        ours.iter().find(|other| other[key].as_str() == Some(name)),
                    ),
                    None => (&*at.to_string(), ours.iter().find(|other| *other == item)),
                };
                compare(&below(name), item, other, all);
            }
        }
        // The cluster says so where nothing was said.
        (Value::Null, _) => {}
        (release, Some(ours)) if release == ours => {}
        (Value::Object(fields), None) if fields.is_empty() => {}
        (release, gateway) => all.push(Difference {
            release: shown(field, release),
            gateway: gateway.map(|ours| shown(field, ours)),
            field: field.to_owned(),
        }),
    }
}

fn key(item: &Value) -> Option<(&'static str, &str)> {
    KEYS.into_iter()
        .find_map(|key| Some((key, item.get(key)?.as_str()?)))
}

/// The value, unless it may be a secret.
fn shown(field: &str, value: &Value) -> Value {
    if field.contains(VARIABLES) && !field.contains(".valueFrom") {
        HIDDEN.into()
    } else {
        value.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_would_be_lost_is_told() {
        let release = json!({
            "containers": [{
                "name": "session",
                "image": "sessions:1",
                "env": [
                    { "name": "SAME", "value": "1" },
                    { "name": "KEY", "value": "secret" },
                    { "name": "OTHER", "value": "secret" },
                    { "name": "FROM", "valueFrom": { "secretKeyRef": { "name": "keys" } } },
                ],
                "args": ["--one", "--two"],
                "resources": {},
            }],
            "tolerations": [{ "key": "gpu", "operator": "Exists" }],
            "nodeSelector": { "disk": "fast" },
            "hostname": null,
        });
        let gateway = json!({
            "containers": [{
                "name": "session",
                "image": "sessions:2",
                "env": [
                    { "name": "MORE", "value": "1" },
                    { "name": "OTHER", "value": "another" },
                    { "name": "SAME", "value": "1" },
                ],
                "args": ["--two"],
            }],
            "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists" }],
        });
        let told = differences(&release, &gateway).into_iter();
        let told: Vec<_> = told
            .map(|one| (one.field, one.release, one.gateway))
            .collect();
        assert_eq!(
            told,
            [
                ("containers.session.args.0".into(), json!("--one"), None),
                ("containers.session.env.KEY".into(), HIDDEN.into(), None),
                (
                    "containers.session.env.OTHER.value".to_owned(),
                    HIDDEN.into(),
                    Some(HIDDEN.into())
                ),
                ("containers.session.env.FROM".into(), HIDDEN.into(), None),
                (
                    "containers.session.image".into(),
                    json!("sessions:1"),
                    Some(json!("sessions:2")),
                ),
                ("nodeSelector".into(), json!({ "disk": "fast" }), None),
                (
                    "tolerations.gpu".into(),
                    json!({ "key": "gpu", "operator": "Exists" }),
                    None,
                ),
            ]
        );
        assert!(!format!("{told:?}").contains("secret\""));
    }
}
