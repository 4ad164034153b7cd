//! Each map full in turn: the Service that does not fit is named, the others keep working, and it gets in once there
//! is room.

use super::*;

fn service(n: u32) -> [String; 2] {
    [
        format!("service a/s{n} ip=10.96.0.{n} port=http/TCP/80"),
        format!("slice a/s{n}-1 of=s{n} port=http/TCP/8080 at=10.0.{n}.1 at=10.0.{n}.2"),
    ]
}

fn full(map: &str, flag: &str, capacities: Capacities) {
    let mut world = World::new(capacities);
    // Invariant 1 is held against what fits, which the reference does not know.
    world.watched = false;
    for n in 1..=3 {
        let [service, slice] = service(n);
        world.change(&service);
        world.change(&slice);
    }
    world.step();
    let findings = world.engine.findings();
    assert_eq!(findings.len(), 1, "{map}: {findings:?}");
    let text = findings[0].to_string();
    assert!(
        text.starts_with("Service a/s3: does not fit into"),
        "{text}"
    );
    assert!(text.contains(map) && text.contains(flag), "{text}");
    assert_eq!(world.engine.dirty(), 1);
    let served = |world: &World, n: u32| {
        let key = frontend(&format!("10.96.0.{n}:80/TCP"));
        world
            .kernel()
            .routes()
            .get(&(key, false))
            .map(BTreeSet::len)
    };
    assert_eq!(
        [1, 2, 3].map(|n| served(&world, n)),
        [Some(2), Some(2), None]
    );
    // Nothing of it is there by half.
    assert!(world.states("10.0.3.1").is_empty());
    world.change("remove service a/s1");
    world.change("remove slice a/s1-1");
    world.settle();
    assert_eq!(
        [1, 2, 3].map(|n| served(&world, n)),
        [None, Some(2), Some(2)]
    );
    assert_eq!(world.engine.findings(), []);
    world.check();
}

#[test]
fn frontends_full() {
    full(
        "frontends",
        "--max-services",
        Capacities {
            frontends: 5,
            ..ROOMY
        },
    );
}

#[test]
fn services_full() {
    full(
        "services",
        "--max-services",
        Capacities {
            services: 3,
            ..ROOMY
        },
    );
}

#[test]
fn sets_full() {
    full("sets", "--max-services", Capacities { sets: 3, ..ROOMY });
}

#[test]
fn slots_full() {
    full("slots", "--max-backends", Capacities { slots: 11, ..ROOMY });
}

#[test]
fn backends_full() {
    full(
        "backends",
        "--max-backends",
        Capacities {
            backends: 6,
            ..ROOMY
        },
    );
}

/// A rolling update when there is no room for one backend more: dead endpoints leave the set at once, and what they
/// free lets the new ones in.
#[test]
fn a_full_map_does_not_keep_dead_endpoints_in_force() {
    let mut world = World::new(Capacities {
        backends: 3,
        ..ROOMY
    });
    world.watched = false;
    let slice = "slice a/s1-1 of=s1 port=http/TCP/8080";
    world.change("service a/s1 ip=10.96.0.1 port=http/TCP/80");
    world.does(&format!("{slice} at=10.0.0.1 at=10.0.0.2"));
    world.does(&format!("{slice} at=10.0.0.2 at=10.0.0.3"));
    let key = frontend("10.96.0.1:80/TCP");
    assert_eq!(world.kernel().route(&(key, false)).len(), 1);
    assert_eq!(world.engine.findings().len(), 1);
    world.settle();
    world.check();
    assert_eq!(world.engine.findings(), []);
}

/// The kernel says full although the books say there is room: tried again, and others go on.
#[test]
fn a_failing_write_harms_nobody_else() {
    #[derive(Debug)]
    struct Nth(usize);
    impl kernel::Failure for Nth {
        fn fails(&mut self) -> bool {
            self.0 = self.0.saturating_sub(1);
            self.0 == 1
        }
    }
    for nth in 2..20 {
        let mut world = World::new(ROOMY);
        world.watched = false;
        for n in 1..=2 {
            let [service, slice] = service(n);
            world.change(&service);
            world.change(&slice);
        }
        world.engine.writer.fails = Box::new(Nth(nth));
        let report = world.step();
        if report.failures == 0 {
            continue;
        }
        assert_eq!(world.engine.dirty(), 1, "the {nth}th write");
        assert_eq!(world.engine.findings().len(), 1);
        assert!(report.next_wakeup.unwrap() > world.clock.now());
        world.settle();
        world.check();
        assert_eq!(world.engine.findings(), []);
        assert_eq!(world.engine.write_failures().values().sum::<u64>(), 1);
    }
}

/// Services come and go over Pods that stay: nothing is left of them.
#[test]
fn services_that_went_take_nothing_with_them() {
    let mut world = World::new(ROOMY);
    world.does("pod a/p0 ip=10.0.0.1 label=app:web");
    for number in 0..300 {
        world.does(&format!("service a/s{number} ip=10.96.0.1 port=http/TCP/80/8080 port=dns/UDP/53/53 select=app:web"));
        world.does(&format!("remove service a/s{number}"));
        world.wait(crate::plan::REST);
    }
    world.settle();
    world.check();
    let used: usize = world.engine.usage().iter().map(|usage| usage.entries).sum();
    assert_eq!(used, 0, "{:?}", world.engine.usage());
}

#[test]
fn source_ranges_full() {
    let mut world = World::new(Capacities { ranges: 2, ..ROOMY });
    world.watched = false;
    let service = |n: u32, ranges: &str| {
        format!("service a/s{n} ip=10.96.0.{n} port=http/TCP/80 lb=203.0.113.{n} {ranges}")
    };
    world.does(&service(1, "range=198.51.100.0/25 range=198.51.100.128/25"));
    world.does(&service(2, "range=198.51.100.0/24"));
    let text = world.engine.findings()[0].to_string();
    let starts = "Service a/s2: does not fit into the map `source_ranges`, which holds 2 entries";
    assert!(text.starts_with(starts), "{text}");
    assert!(text.contains("--max-source-ranges"), "{text}");
    // What is not wanted any more makes room for what is; until then the address is open to nobody.
    world.engine.writer.lenient = true;
    world.does(&service(1, "range=198.51.100.0/24"));
    world.settle();
    assert_eq!(world.engine.findings(), []);
    world.check();
}
