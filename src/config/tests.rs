use super::*;
use crate::activator::Trigger;

#[test]
fn the_defaults_have_no_problem_and_no_key_that_nobody_reads() {
    let config = Config::with(&["local.data=/data"]).unwrap();
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8000");
    assert!(config.gateway.workers >= 1);
    assert_eq!(config.spawn.trigger, Trigger::Any);
    assert_eq!(config.spawn.hold, Duration::from_secs(25));
    assert_eq!(config.services.count(), 3);
    assert_eq!(config.local.data, PathBuf::from("/data"));
    assert_eq!(config.plan.project, "0");
}
