//! The table by itself.

use super::*;

#[test]
fn a_late_word_of_an_old_instance_changes_nothing() {
    let (table, _ports) = Table::new();
    let (id, service) = (SessionId::random(), services()[0]);
    let (old, new) = (InstanceUid(Uuid::new_v4()), InstanceUid(Uuid::new_v4()));
    let address = vec![SocketAddr::from(([127, 0, 0, 1], 1)); 2];
    assert!(
        !table.apply(Fact::Open(id, old, service)),
        "of a session nobody knows"
    );
    assert!(table.apply(Fact::Saw(id, Observed::new(old, address.clone()))));
    assert!(table.apply(Fact::Open(id, old, service)));
    assert!(table.apply(Fact::Saw(id, Observed::new(new, address))));
    for late in [
        Fact::Open(id, old, service),
        Fact::Closed(id, old, service),
        Fact::Ending(id, old),
        Fact::Gone(id, old),
        Fact::Broke(id, old, service, Arc::new(Reason::Internal)),
    ] {
        assert!(!table.apply(late.clone()), "{late:?}");
    }
    assert!(table.running(id, service).is_none());
    assert!(table.apply(Fact::Open(id, new, service)));
    let lease = table.running(id, service).unwrap();
    assert_eq!(
        (lease.instance().uid(), lease.instance().leases()),
        (new, 1)
    );
    assert!(table.apply(Fact::Gone(id, new)));
    assert_eq!(table.sessions().len(), 0, "what is gone costs nothing");
}
