use std::time::Duration;

use super::*;
use crate::activator::Trigger;
use crate::session::{HostHeader, OriginHeader, Prefix};

fn load(
    file: Option<&str>,
    environment: &[(&str, &str)],
    sets: &[&str],
) -> Result<Config, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, file.unwrap_or_default()).unwrap();
    Config::load(&Sources {
        file: file.map(|_| path),
        environment: environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        sets: sets.iter().map(|&set| set.to_owned()).collect(),
    })
}

#[test]
fn the_defaults_have_no_problem_and_no_key_that_nobody_reads() {
    let config = Config::with(&["local.data=/data"]).unwrap();
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8000");
    assert!(config.gateway.workers >= 1);
    assert!(
        config
            .gateway
            .link_previews
            .contains(&"slackbot".to_owned())
    );
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8001");
    assert_eq!(
        (config.spawn.trigger, config.spawn.hold),
        (Trigger::Any, Duration::from_secs(25))
    );
    let names: Vec<_> = config
        .services
        .iter()
        .map(|(_, spec)| (spec.name.as_str(), spec.port))
        .collect();
    assert_eq!(names, [("preview", 3000), ("chat", 3001), ("vscode", 8080)]);
    assert_eq!(config.local.data, PathBuf::from("/data"));
    assert_eq!(
        (config.plan.project.as_str(), config.plan.user.as_str()),
        ("0", "0")
    );
    assert_eq!(config.shutdown.grace, Duration::from_secs(10));
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let file = "spawn:\n  hold: 1s\n  held: 1\n  concurrent: 1\nlog:\n";
    let environment = [
        ("HOME", "/home/a"),
        ("SESSION_GATEWAY__SPAWN__HELD", "2"),
        ("SESSION_GATEWAY__SPAWN__CONCURRENT", "2"),
    ];
    let spawn = load(Some(file), &environment, &["spawn.concurrent=3"])
        .unwrap()
        .spawn;
    assert_eq!(
        (spawn.hold, spawn.held, spawn.concurrent),
        (Duration::from_secs(1), 2, 3)
    );
}

#[test]
fn the_environment_has_scalars_lists_and_strings_that_are_no_yaml() {
    let config = load(
        None,
        &[
            ("HOME", "/home/a"),
            ("SESSION_GATEWAY__AUTH__NONE_IS_FINE", "true"),
            ("SESSION_GATEWAY__LISTEN", "[::]:8000"),
            ("SESSION_GATEWAY__HOSTS", "[A.example, b.example]"),
            ("SESSION_GATEWAY__PROJECT__ID", "007"),
            ("SESSION_GATEWAY__LOCAL__DATA", ""),
            ("SESSION_GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(config.gateway.listen.to_string(), "[::]:8000");
    assert_eq!(config.gateway.hosts, ["a.example", "b.example"]);
    assert_eq!(config.plan.project, "007");
    assert_eq!(
        config.local.data,
        PathBuf::from("/home/a/.local/share/session-gateway")
    );
}

#[test]
fn data_goes_where_the_user_keeps_data() {
    let data =
        |environment: &[(&str, &str)]| load(None, environment, &[]).map(|config| config.local.data);
    let home = ("HOME", "/home/a");
    assert_eq!(
        data(&[home, ("XDG_DATA_HOME", "/data")]).unwrap(),
        PathBuf::from("/data/session-gateway")
    );
    let below_home = PathBuf::from("/home/a/.local/share/session-gateway");
    assert_eq!(
        data(&[home, ("XDG_DATA_HOME", "relative")]).unwrap(),
        below_home
    );
    let nowhere = data(&[]).unwrap_err().to_string();
    assert!(
        nowhere.contains("local.data: is empty, and so is $HOME"),
        "{nowhere}"
    );
}

#[test]
fn a_service_needs_no_more_than_its_port_and_can_be_left_out() {
    let file = "service:\n  vscode: null\n  term: { port: 7681 }\n\
                local: { services: { term: { command: [ttyd], env: { A: 1 }, cwd: app } } }\n";
    let config = load(Some(file), &[("HOME", "/home/a")], &[]).unwrap();
    let names: Vec<_> = config
        .services
        .iter()
        .map(|(_, spec)| spec.name.as_str())
        .collect();
    assert_eq!(names, ["preview", "chat", "term"]);
    let term = config.services.spec(config.services.named("term").unwrap());
    assert_eq!((term.port, term.path.as_str()), (7681, "/term"));
    assert_eq!(
        (term.prefix, term.host, term.origin),
        (Prefix::Strip, HostHeader::Public, OriginHeader::Pass)
    );
    let command = &config.local.services["term"];
    assert_eq!(
        (&command.command[..], &command.env["A"]),
        (&["ttyd".to_owned()][..], &"1".to_owned())
    );
    assert_eq!(command.cwd, Some(PathBuf::from("app")));
}

#[test]
fn two_listeners_may_both_ask_for_any_port() {
    let config = Config::with(&["listen=127.0.0.1:0,admin.listen=127.0.0.1:0"]).unwrap();
    assert_eq!(config.gateway.listen, config.admin.listen);
}
