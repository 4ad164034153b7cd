//! How many writes a change costs.

use super::*;

const WEB: &str = "service a/web ip=10.96.0.1 port=http/TCP/80";

fn with_endpoints(endpoints: &str) -> World {
    let mut world = World::new(ROOMY);
    world.change(WEB);
    world.does(&format!(
        "slice a/web-1 of=web port=http/TCP/8080 {endpoints}"
    ));
    world
}

/// (stores, system calls) of the last change.
fn cost(world: &mut World, endpoints: &str) -> (u64, u64) {
    let report = world.does(&format!(
        "slice a/web-1 of=web port=http/TCP/8080 {endpoints}"
    ));
    world.check();
    assert_eq!(report.graces, 0);
    (report.stores, report.map_ops)
}

#[test]
fn an_endpoint_more() {
    let mut world = with_endpoints("at=10.0.0.1 at=10.0.0.2");
    assert_eq!(
        cost(&mut world, "at=10.0.0.1 at=10.0.0.2 at=10.0.0.3"),
        (2, 1)
    );
}

#[test]
fn an_endpoint_less() {
    let mut world = with_endpoints("at=10.0.0.1 at=10.0.0.2 at=10.0.0.3");
    assert_eq!(cost(&mut world, "at=10.0.0.2 at=10.0.0.3"), (3, 0));
    assert_eq!(world.states("10.0.0.1"), [BackendState::Gone]);
}

#[test]
fn an_endpoint_replaced() {
    let mut world = with_endpoints("at=10.0.0.1 at=10.0.0.2 at=10.0.0.3");
    assert_eq!(
        cost(&mut world, "at=10.0.0.2 at=10.0.0.3 at=10.0.0.4"),
        (2, 1)
    );
}

#[test]
fn unready_and_back() {
    let mut world = with_endpoints("at=10.0.0.1 at=10.0.0.2 at=10.0.0.3");
    let id = world.kernel().slots[&0];
    assert_eq!(
        cost(&mut world, "at=10.0.0.1,unready at=10.0.0.2 at=10.0.0.3"),
        (3, 0)
    );
    assert_eq!(world.states("10.0.0.1"), [BackendState::Draining]);
    assert_eq!(
        cost(&mut world, "at=10.0.0.1 at=10.0.0.2 at=10.0.0.3"),
        (3, 0)
    );
    assert_eq!(world.states("10.0.0.1"), [BackendState::Ready]);
    let set = world.kernel().frontends[&frontend("10.96.0.1:80/TCP")].cluster();
    assert!(world.kernel().members(set).contains(&id));
}

/// Both sets of a port share backends: an endpoint of this node is one backend in two sets.
#[test]
fn an_endpoint_in_both_sets() {
    let mut world = with_endpoints("at=10.0.0.1,on:two at=10.0.0.2,on:one");
    world.does(&format!("{WEB} itp=local"));
    let more = "at=10.0.0.1,on:two at=10.0.0.2,on:one at=10.0.0.3,on:one";
    assert_eq!(cost(&mut world, more), (4, 1));
    assert_eq!(world.states("10.0.0.3"), [BackendState::Ready]);
    let elsewhere = "at=10.0.0.1,on:two at=10.0.0.2,on:one at=10.0.0.3,on:one at=10.0.0.4,on:two";
    assert_eq!(cost(&mut world, elsewhere), (2, 1));
    assert_eq!(cost(&mut world, more), (2, 0));
    let less = "at=10.0.0.1,on:two at=10.0.0.2,on:one";
    assert_eq!(cost(&mut world, less), (3, 0));
}

/// Local: a set of its own and the frontend. Cluster again: the frontend, and once nobody reads the old one, the set.
#[test]
fn a_policy_there_and_back() {
    let mut world = with_endpoints("at=10.0.0.1,on:two at=10.0.0.2,on:one");
    world.wait(Time::from_secs(2));
    let there = world.does(&format!("{WEB} itp=local"));
    assert_eq!((there.stores, there.map_ops, there.graces), (2, 1, 0));
    world.wait(Time::from_secs(2));
    let back = world.does(WEB);
    assert_eq!((back.stores, back.map_ops, back.graces), (1, 1, 1));
    world.check();
}

#[test]
fn the_first_and_the_last() {
    let mut world = with_endpoints("");
    assert_eq!(cost(&mut world, "at=10.0.0.1"), (2, 1));
    assert_eq!(cost(&mut world, ""), (2, 0));
}

#[test]
fn no_change_no_write() {
    let mut world = with_endpoints("at=10.0.0.1");
    assert_eq!(cost(&mut world, "at=10.0.0.1"), (0, 0));
}

/// Whatever single endpoint changes, at whatever size: at most 4 stores and 8 system calls, growth aside.
#[test]
fn any_endpoint_change_is_at_most_four_stores() {
    for size in 1..40u32 {
        let list = |skip: u32, states: &str| -> String {
            (0..size)
                .filter(|n| *n != skip)
                .map(|n| format!("at=10.0.0.{n}{} ", if n == 0 { states } else { "" }))
                .collect()
        };
        let whole = list(size, "");
        for changed in [list(0, ""), list(size - 1, ""), list(size, ",unready")] {
            let mut world = with_endpoints(&whole);
            let down = cost(&mut world, &changed);
            world.wait(Time::from_secs(2));
            let up = cost(&mut world, &whole);
            assert!(down.0 <= 4 && up.0 <= 4, "{size}: {down:?} {up:?}");
            assert!(down.0 + down.1 <= 8 && up.0 + up.1 <= 8);
        }
    }
}

#[test]
fn ids_rest_and_come_back_with_another_generation() {
    let mut world = with_endpoints("at=10.0.0.1 at=10.0.0.2");
    let generations = |world: &World| -> Vec<u32> {
        let backends = world.kernel().backends.values();
        backends
            .map(|backend| backend.word().generation())
            .collect()
    };
    cost(&mut world, "at=10.0.0.2 at=10.0.0.3");
    assert_eq!(generations(&world), [1, 1, 1]);
    world.wait(Time::from_secs(1));
    cost(&mut world, "at=10.0.0.2 at=10.0.0.4");
    assert_eq!(generations(&world), [2, 1, 1]);
}

#[test]
fn a_new_service_waits_for_programs_that_read_a_deleted_one() {
    let mut world = with_endpoints("at=10.0.0.1");
    world.does("remove service a/web");
    assert_eq!(world.does(WEB).graces, 1);
    world.does("remove service a/web");
    world.wait(Time::from_secs(1));
    assert_eq!(world.does(WEB).graces, 0);
    world.check();
}

#[test]
fn ten_thousand_services_and_one_endpoint() {
    let capacities = Capacities {
        frontends: 65_536,
        services: 65_536,
        sets: 131_072,
        slots: 1_048_576,
        backends: 262_144,
        ranges: 16_384,
    };
    let clock = TestClock::default();
    let applied = Applied::new(capacities);
    let mut engine = Engine::new(Store::default(), applied, Counted, clock, SplitMix(1));
    engine.submit((0..10_000).flat_map(|n| objects(n, 0)));
    engine.submit(Kind::ALL.map(Change::Synced));
    engine.submit([Change::NodeAddresses(BTreeSet::new())]);
    let report = engine.step();
    // Ten backends a Service, a frontend and a whole address; ten slots and a set.
    assert_eq!((report.map_ops, report.stores), (120_000, 110_000));
    engine.submit(objects(5_000, 1));
    let report = engine.step();
    assert_eq!((report.map_ops, report.stores), (1, 2));
    assert_eq!(engine.dirty(), 0);
}

struct Counted;

impl MapWriter for Counted {
    fn write(&mut self, _: &crate::plan::Write) -> Result<(), WriteError> {
        Ok(())
    }

    fn grace(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

fn objects(n: u32, round: u32) -> [Change; 2] {
    let ip = |first: u32, n: u32| format!("{first}.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255);
    let endpoints: String = (0..10)
        .map(|k| {
            format!(
                "at={} ",
                ip(10, n * 10 + k + if k == 0 { 200_000 * round } else { 0 })
            )
        })
        .collect();
    let service = format!("service a/web-{n} ip={} port=http/TCP/80", ip(11, n));
    let slice = format!("slice a/web-{n}-1 of=web-{n} port=http/TCP/8080 {endpoints}");
    [words::change(&service), words::change(&slice)]
}
