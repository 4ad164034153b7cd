//! A new agent over what an earlier one left.

use super::*;

fn served() -> World {
    let mut world = World::new(ROOMY);
    world.change("service a/web ip=10.96.0.1 ip=fd00::1 port=http/TCP/80 affinity=10");
    world.change("slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.1 at=10.0.0.2 at=fd01::1");
    world.does("service a/api ip=10.96.0.2 port=http/TCP/80");
    world.check();
    world
}

/// While the agent is away.
fn unseen(world: &mut World, line: &str) {
    world.reference.apply(&words::change(line));
}

#[test]
fn nothing_new_is_nothing_written() {
    let mut world = served();
    world.restart(|changes| changes.reverse());
    assert_eq!(world.step().writes, 0);
    world.check();
    assert!(!world.engine.applied().has_leftovers());
}

#[test]
fn an_endpoint_that_came_in_between_costs_what_it_always_costs() {
    let mut world = served();
    unseen(
        &mut world,
        "slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.1 at=10.0.0.2 at=10.0.0.3 at=fd01::1",
    );
    // What was free may have been freed a moment ago: nothing but ids that were never used is given out.
    world.restart(|_| {});
    let report = world.step();
    assert_eq!((report.stores, report.map_ops), (2, 1));
    world.check();
}

#[test]
fn a_service_that_went_in_between_goes_after_the_full_list() {
    let mut world = served();
    unseen(&mut world, "remove service a/api");
    world.restart(|_| {});
    world.step();
    world.check();
    assert!(!world.engine.applied().has_leftovers());
}

/// What the source could not read since it began may hold the endpoints, or the Service itself.
#[test]
fn what_may_be_in_an_unread_file_stays_until_that_is_read() {
    let mut world = served();
    let before = world.kernel().dump();
    // The second Service, and the slices of the first, are in a file that is broken when the agent starts.
    world.watched = false;
    world.restart(|changes| {
        changes.retain(|change| match change {
            Change::Put(object) => &*object.id().name.name == "web",
            Change::Remove(_)
            | Change::Synced(_)
            | Change::Incomplete(_)
            | Change::NodeAddresses(_) => true,
        });
        changes.push(Change::Incomplete(true));
    });
    let report = world.step();
    assert_eq!((report.writes, report.next_wakeup), (0, None));
    assert_eq!(world.kernel().dump(), before);
    // Other Services are served meanwhile.
    world.does("service a/new ip=10.96.0.3 port=http/TCP/80");
    assert!(
        world
            .kernel()
            .frontends
            .contains_key(&frontend("10.96.0.3:80/TCP"))
    );
    world.engine.submit([Change::Incomplete(false)]);
    unseen(&mut world, "remove service a/api");
    unseen(&mut world, "remove slice a/web-1");
    world.settle();
    world.check();
    assert!(!world.engine.applied().has_leftovers());
}

/// One of two slices is in a file that is broken when the agent starts.
#[test]
fn endpoints_that_no_object_has_named_since_keep_their_places() {
    let mut world = World::new(ROOMY);
    world.change("service a/web ip=10.96.0.1 port=http/TCP/80");
    world.change("slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.1");
    world.does("slice a/web-2 of=web port=http/TCP/8080 at=10.0.0.2");
    world.watched = false;
    world.restart(|changes| {
        changes.retain(|change| match change {
            Change::Put(object) => &*object.id().name.name != "web-2",
            Change::Remove(_)
            | Change::Synced(_)
            | Change::Incomplete(_)
            | Change::NodeAddresses(_) => true,
        });
        changes.push(Change::Incomplete(true));
    });
    assert_eq!(world.step().writes, 0);
    // What an object has named goes when the object says so.
    world.does("slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.3");
    let routes = world.kernel().routes();
    let targets = &routes[&(frontend("10.96.0.1:80/TCP"), false)];
    let shown: Vec<String> = targets.iter().map(|it| it.address.to_string()).collect();
    assert_eq!(shown, ["10.0.0.2", "10.0.0.3"]);
    world.change("remove slice a/web-2");
    world.engine.submit([Change::Incomplete(false)]);
    world.settle();
    world.check();
}

/// Two addresses lead to one set; one of them is another Service's now. That Service must not fill the set with its
/// endpoints while the other address still leads there (`step` holds each write against that).
#[test]
fn a_set_is_taken_over_whole_or_not_at_all() {
    let mut world = World::new(ROOMY);
    world.change("slice a/new-1 of=new port=dns/UDP/53 at=10.0.0.1");
    world.does("service a/old ip=10.96.0.1 ip=10.96.0.2 port=dns/UDP/53");
    unseen(
        &mut world,
        "service a/new ip=10.96.0.1 port=dns/UDP/53 created=1",
    );
    world.restart(|_| {});
    world.settle();
    world.check();
}

/// Frontends that a Service wants but cannot have yet stay as they are.
#[test]
fn what_a_failing_service_has_is_no_garbage() {
    #[derive(Debug)]
    struct Always;
    impl kernel::Failure for Always {
        fn fails(&mut self) -> bool {
            true
        }
    }
    let mut world = served();
    world.watched = false;
    unseen(
        &mut world,
        "slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.9",
    );
    let before = world.kernel().routes();
    world.restart(|_| {});
    world.engine.writer.fails = Box::new(Always);
    assert!(world.step().failures > 0);
    assert_eq!(world.kernel().routes(), before);
    world.engine.writer.fails = Box::new(());
    world.settle();
    world.check();
}

/// The node lost an address while the agent was away: the node port keeps its ids, and what goes by them.
#[test]
fn what_nobody_wants_any_more_does_not_cost_a_port_its_ids() {
    let mut world = World::new(ROOMY);
    world.change("addresses 192.0.2.1 192.0.2.2");
    world.change("slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.1");
    world.does("service a/web ip=10.96.0.1 port=http/TCP/80@30080");
    let key = frontend("10.96.0.1:80/TCP");
    let before = world.kernel().frontends[&key];
    unseen(&mut world, "addresses 192.0.2.2");
    world.restart(|_| {});
    let report = world.step();
    assert_eq!((report.stores, report.map_ops), (0, 1));
    assert_eq!(world.kernel().frontends[&key], before);
    world.check();
}

/// It leads by another policy than the frontend that is left, so the port's first endpoint would be reached by it too.
#[test]
fn what_nobody_wants_any_more_goes_before_its_set_is_filled() {
    let mut world = World::new(ROOMY);
    world.does("service a/web ip=10.96.0.1 port=http/TCP/80 eip=192.0.2.80 itp=local");
    unseen(
        &mut world,
        "service a/web ip=10.96.0.1 port=http/TCP/80 itp=local",
    );
    unseen(
        &mut world,
        "slice a/web-1 of=web port=http/TCP/8080 at=10.0.0.1",
    );
    world.restart(|_| {});
    world.settle();
    world.check();
}

/// A Service that is gone had two addresses; one of them is another Service's now. Nobody's address must not lead to that
/// one's endpoints, be it deleted at once or not.
#[test]
fn nobody_s_frontend_never_leads_to_another_service() {
    #[derive(Debug)]
    struct First(std::cell::Cell<bool>);
    impl kernel::Failure for First {
        fn fails(&mut self) -> bool {
            self.0.replace(false)
        }
    }
    for fails in [false, true] {
        let mut world = World::new(ROOMY);
        world.does("service a/old ip=10.96.0.1 port=http/TCP/80 eip=192.0.2.80");
        unseen(&mut world, "remove service a/old");
        unseen(&mut world, "service a/new ip=10.96.0.1 port=http/TCP/80");
        unseen(
            &mut world,
            "slice a/new-1 of=new port=http/TCP/8080 at=10.0.0.1",
        );
        world.restart(|_| {});
        world.engine.writer.fails = Box::new(First(fails.into()));
        assert_eq!(world.step().failures, u64::from(fails));
        world.settle();
        world.check();
    }
}
