//! Profiles: what each makes of the settings, and that the platform's word chooses among them.

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use session_gateway::{
    config::{Config, Sources},
    session::SessionId,
    settings::{Origin, yaml},
};
use tempfile::tempdir;
use tokio::time::{Duration, Instant, sleep};

use crate::{
    resolver::{Platform, Says, plan},
    support::{DEADLINE, sample, serve::Serve, until},
};

const SETTINGS: &str = r#"
image: { repository: registry.example/dev, tag: "1" }
env: { A: base, B: base }
envSecrets: [keys]
podTemplate: { spec: { hostname: base } }
profiles:
  large:
    image: { tag: "2" }
    resources: { limits: { memory: 16Gi } }
    storage: { size: 50Gi }
    env: { B: large, C: large }
    envSecrets: [more]
    podTemplate: { spec: { priorityClassName: high } }
    quota: { pods: "3" }
  disk-less:
    storage: { enabled: false }
"#;

/// The objects of a session by their kinds; one of each kind is enough.
fn render(folder: &Path, id: SessionId, sets: &[&str]) -> Value {
    let file = folder.join("gateway.yaml");
    std::fs::write(&file, SETTINGS).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_session-gateway"))
        .args(["render", &id.to_string(), "--config"])
        .arg(file)
        .args(sets.iter().flat_map(|set| ["--set", *set]))
        .output()
        .expect("the program runs");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{text}");
    let documents = text.split("---\n").map(|text| {
        let object = yaml::parse(text, &|_| Origin::Default).expect("YAML");
        let object = object.value.json();
        (object["kind"].as_str().expect("a kind").to_owned(), object)
    });
    documents.collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn a_profile_is_laid_over_the_settings_and_changes_nothing_else() {
    let (folder, id) = (tempdir().unwrap(), SessionId::random());
    let base = render(folder.path(), id, &[]);
    let large = render(folder.path(), id, &["profile=large"]);
    let (before, after) = (container(&base), container(&large));
    assert_eq!(before["image"], "registry.example/dev:1");
    assert_eq!(after["image"], "registry.example/dev:2");
    assert_eq!(
        after["resources"]["limits"],
        json!({ "cpu": "2000m", "memory": "16Gi" }),
        "key by key"
    );
    assert_eq!(
        after["resources"]["requests"],
        before["resources"]["requests"]
    );
    for (name, one, other) in [
        ("A", Some("base"), Some("base")),
        ("B", Some("base"), Some("large")),
        ("C", None, Some("large")),
    ] {
        assert_eq!(variable(before, name).as_deref(), one, "{name}");
        assert_eq!(variable(after, name).as_deref(), other, "{name}");
    }
    assert_eq!(
        after["envFrom"],
        json!([{ "secretRef": { "name": "more" } }]),
        "a list is replaced"
    );
    let spec = &large["Pod"]["spec"];
    assert_eq!(
        (&spec["hostname"], &spec["priorityClassName"]),
        (&json!("base"), &json!("high"))
    );
    let size = |all: &Value| {
        all["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"].clone()
    };
    assert_eq!((size(&base), size(&large)), (json!("10Gi"), json!("50Gi")));
    assert_eq!(base.get("ResourceQuota"), None);
    assert_eq!(
        large["ResourceQuota"]["spec"]["hard"],
        json!({ "pods": "3" })
    );
    let none = render(folder.path(), id, &["profile=disk-less"]);
    assert_eq!(none.get("PersistentVolumeClaim"), None);
    assert_eq!(container(&none)["env"], before["env"]);
    let label = |all: &Value| {
        all["Pod"]["metadata"]["labels"]
            .get("dev-session/profile")
            .cloned()
    };
    assert_eq!((label(&base), label(&large)), (None, Some(json!("large"))));
}

#[test]
fn the_hash_of_a_plan_covers_its_profile() {
    let (folder, id) = (tempdir().unwrap(), SessionId::random());
    let hash = |sets: &[&str]| {
        let all = render(folder.path(), id, sets);
        all["Pod"]["metadata"]["annotations"]["dev-session/plan"].to_string()
    };
    let hashes = [
        hash(&[]),
        hash(&["profile=large"]),
        hash(&["profile=large,profiles.large.env.C=other"]),
        hash(&["profile=disk-less"]),
        // Of another name alone.
        hash(&["profile=same", "profiles.same.env.A=base"]),
    ];
    for (at, one) in hashes.iter().enumerate() {
        assert!(!hashes[..at].contains(one), "{hashes:?}");
    }
    assert_eq!(hash(&["profile=large"]), hashes[1]);
    // Nothing of a session is made otherwise for it.
    let times = "profile=large,profiles.large.idle.after=5m,idle.countdown=5s";
    assert_eq!(hash(&[times]), hashes[1]);
    assert_eq!(hash(&["profiles.small.env.A=small"]), hashes[0]);
}

fn container(all: &Value) -> &Value {
    &all["Pod"]["spec"]["containers"][0]
}

/// The value of a variable of the container.
fn variable(container: &Value, name: &str) -> Option<String> {
    let all = container["env"].as_array().expect("variables");
    let found = all.iter().find(|one| one["name"] == name);
    found.map(|one| one["value"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn what_is_wrong_with_a_profile_is_told_with_its_place() {
    let folder = tempdir().unwrap();
    let told = |text: &str| {
        let file = folder.path().join("gateway.yaml");
        std::fs::write(&file, text).unwrap();
        let sources = Sources {
            file: Some(file),
            environment: vec![("HOME".to_owned(), "/home/somebody".to_owned())],
            sets: vec![],
        };
        let problems = Config::load(&sources).expect_err(text).to_string();
        let folder = format!("{}/", folder.path().display());
        problems
            .replace(&folder, "")
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let table: &[(&str, &[&str])] = &[
        (
            "profile: large\n",
            &[
                "gateway.yaml:1: profile: no such profile; expected default or one of those in profiles: default",
            ],
        ),
        (
            "profiles:\n  large:\n    strorage: { size: 1Gi }\n",
            &[
                "gateway.yaml:3: profiles.large.strorage: unknown key; did you mean profiles.large.storage?",
            ],
        ),
        (
            "profiles:\n  Large: {}\n",
            &["profiles.Large: expected a name of up to 30 lower-case letters"],
        ),
        (
            "profiles:\n  large:\n    storage: { size: big }\nstorage: { mountPath: x }\n",
            &[
                "gateway.yaml:3: profiles.large.storage.size: expected a quantity",
                "gateway.yaml:4: storage.mountPath: expected a path",
            ],
        ),
        (
            "profiles:\n  large:\n    namespace: other\n",
            &["gateway.yaml:3: profiles.large.namespace: unknown key"],
        ),
        (
            "profiles:\n  large:\n    local:\n      services:\n        shell: { command: [sh] }\n",
            &["gateway.yaml:5: profiles.large.local.services.shell: no such service"],
        ),
    ];
    for (text, expected) in table {
        let told = told(text);
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (line, part) in told.iter().zip(*expected) {
            assert!(line.contains(part), "{line:?} has no {part:?}");
        }
    }
}

/// Of the profiles of two sessions one is stopped soon.
#[tokio::test]
async fn a_session_lives_as_long_as_its_profile_says() {
    let (data, platform) = (tempdir().unwrap(), Platform::new().await);
    let settings = [
        platform.setting(),
        "profiles.brief.idle.after=1s,profiles.brief.idle.countdown=1s".to_owned(),
    ];
    let gateway = Serve::start(data.path(), &settings);
    let [brief, other] = [SessionId::random(), SessionId::random()];
    let navigation = sample(session_gateway::session::Intent::Navigation).1;
    for (id, profile) in [(other, "default"), (brief, "brief")] {
        let mut answer = plan("7", "42");
        answer["profile"] = profile.into();
        platform.says(id, Says::Text(200, answer.to_string()));
        gateway
            .send("GET", &format!("/{id}/chat/"), &navigation)
            .await;
    }
    let told = async |id| {
        let reply = gateway.send("GET", &format!("/{id}/-/status"), &[]).await;
        serde_json::from_slice::<Value>(&reply.body).expect("a status")
    };
    let begun = Instant::now();
    while told(brief).await["state"] != "stopped" {
        assert!(begun.elapsed() < DEADLINE, "{}", told(brief).await);
        sleep(Duration::from_millis(10)).await;
    }
    let other = told(other).await;
    assert_eq!(
        (&other["state"], other.get("stop")),
        (&json!("running"), None)
    );
}

/// The platform names a profile, or none; local sessions run what it says.
#[tokio::test]
async fn the_platform_chooses_the_profile() {
    let (data, platform) = (tempdir().unwrap(), Platform::new().await);
    let run = "echo $SIZE $PROJECT_ID > size.new && mv size.new size && exec sleep 1000";
    let mut settings = vec![
        platform.setting(),
        "profile=small".to_owned(),
        format!("local.services.preview.command={{sh,-c,{run}}}"),
        "local.services.preview.env.SIZE=default".to_owned(),
        "profiles.small.local.services.preview.env.SIZE=small".to_owned(),
        "profiles.large.local.services.preview.env.SIZE=large".to_owned(),
    ];
    for name in ["chat", "vscode"] {
        settings.push(format!("local.services.{name}.command={{sleep,1000}}"));
    }
    let gateway = Serve::start(data.path(), &settings);
    for (profile, size) in [
        (Value::Null, "small"),
        (json!("large"), "large"),
        (json!("default"), "default"),
    ] {
        let id = SessionId::random();
        let mut answer = plan("7", "42");
        answer["profile"] = profile;
        platform.says(id, Says::Text(200, answer.to_string()));
        let navigation = sample(session_gateway::session::Intent::Navigation).1;
        gateway
            .send("GET", &format!("/{id}/preview/"), &navigation)
            .await;
        let file = data.path().join(format!("sessions/{id}/workspace/size"));
        until("its service runs", || file.exists()).await;
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            format!("{size} 7\n")
        );
    }
}
