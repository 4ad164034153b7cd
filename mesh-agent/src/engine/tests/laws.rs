//! What holds for any history: order cannot matter, no write leads a connection astray, failures are made good, and a
//! new agent goes on where the old one stopped.

use mesh_common::{Address, Backend, BackendWord, FrontendValue, Port, ServiceWord, SetWord};
use proptest::prelude::*;

use super::*;
use crate::{
    desired::{Desired, Finding, desired},
    plan::{TableDump, Time},
};

#[derive(Clone, Debug)]
enum Op {
    Change(String),
    Step,
    Wait(u64),
    Restart(u64),
}

fn some_of(of: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    prop::sample::subsequence(of, 0..=most).prop_map(|words| words.join(" "))
}

const IPS: &[&str] = &["ip=10.96.0.1", "ip=10.96.0.2", "ip=fd00::1"];
const PORTS: &[&str] = &[
    "port=http/TCP/80/8080@30080",
    "port=dns/UDP/53/dns",
    "port=dns-tcp/TCP/53/dns@30053",
];
const OUTSIDE: &[&str] = &[
    "eip=192.0.2.80",
    "eip=2001:db8::80",
    "lb=192.0.2.80",
    "lb=192.0.2.81",
    "lb=2001:db8::81",
    "range=198.51.100.0/24",
    "range=203.0.113.9/32",
    "range=2001:db8:1::/48",
];
const NODE_ADDRESSES: &[&str] = &["192.0.2.1", "192.0.2.80", "2001:db8::1", "127.0.0.1"];
const EXTRAS: &[&str] = &[
    "affinity=60",
    "publish",
    "external",
    "created=1",
    "created=2",
    "itp=local",
    "etp=local",
    "near=zone",
    "near=node",
];
const SELECTORS: &[&str] = &["select=app:web", "select=tier:front"];
const SLICE_PORTS: &[&str] = &[
    "port=http/TCP/8080",
    "port=dns/UDP/5353",
    "port=dns-tcp/TCP/5353",
];
const ADDRESSES: &[&str] = &[
    "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "fd01::1", "fd01::2",
];
const STATES: &[&str] = &["", "", "", ",unready", ",terminating", ",finished"];
const NODES: &[&str] = &["", ",on:one", ",on:one", ",on:two"];
const ZONES: &[&str] = &["", ",forzone:a", ",forzone:a,forzone:b", ",forzone:b"];
const NODE_HINTS: &[&str] = &["", ",fornode:one", ",fornode:two"];
const NODE_LINES: &[&str] = &[
    "node one zone=a",
    "node one zone=b",
    "node one",
    "node two zone=b",
    "node two",
];
const LABELS: &[&str] = &["label=app:web", "label=tier:front", "label=x:y"];
const POD_PORTS: &[&str] = &[
    "port=dns/UDP/5353",
    "port=dns/TCP/5354@80",
    "port=web/TCP/8080@30080@192.0.2.1",
];
const POD_EXTRAS: &[&str] = &[
    "unready",
    "terminating",
    "phase=Succeeded",
    "hostnetwork",
    "created=1",
];

fn service() -> impl Strategy<Value = String> {
    let parts = (
        0..4u32,
        some_of(IPS, 3),
        some_of(PORTS, 3),
        some_of(EXTRAS, 3),
        some_of(OUTSIDE, 5),
        some_of(SELECTORS, 2),
    );
    parts.prop_map(|(n, ips, ports, extras, outside, selector)| {
        format!("service a/s{n} {ips} {ports} {extras} {outside} {selector}")
    })
}

fn slice() -> impl Strategy<Value = String> {
    let endpoint = (
        prop::sample::select(ADDRESSES),
        prop::sample::select(STATES),
        prop::sample::select(NODES),
        prop::sample::select(ZONES),
        prop::sample::select(NODE_HINTS),
    );
    let endpoints = prop::collection::vec(endpoint, 0..7);
    let hinted = (any::<bool>(), any::<bool>());
    let parts = (0..5u32, 0..4u32, some_of(SLICE_PORTS, 3), endpoints, hinted);
    parts.prop_map(|(n, service, ports, endpoints, (zones, nodes))| {
        let of = |is: bool, text: &'static str| if is { text } else { "" };
        let endpoints: Vec<String> = endpoints
            .into_iter()
            .map(|(address, state, on, zone, node)| {
                let (zone, node) = (of(zones, zone), of(nodes, node));
                format!("at={address}{state}{on}{zone}{node}")
            })
            .collect();
        let endpoints = endpoints.join(" ");
        format!("slice a/e{n} of=s{service} {ports} {endpoints}")
    })
}

fn pod() -> impl Strategy<Value = String> {
    let parts = (
        0..4u32,
        1..4u32,
        any::<bool>(),
        some_of(LABELS, 3),
        some_of(POD_PORTS, 3),
        some_of(POD_EXTRAS, 2),
    );
    parts.prop_map(|(n, host, dual, labels, ports, extras)| {
        let second = if dual {
            format!("ip=fd01::{host}")
        } else {
            String::new()
        };
        let node = ["one", "one", "two"][n as usize % 3];
        format!("pod a/p{n} ip=10.0.0.{host} {second} {labels} {ports} {extras} node={node}")
    })
}

fn removal() -> impl Strategy<Value = String> {
    let kinds = prop::sample::select(&["service a/s", "slice a/e", "pod a/p"][..]);
    (kinds, 0..5u32).prop_map(|(kind, n)| format!("remove {kind}{n}"))
}

fn addresses() -> impl Strategy<Value = String> {
    some_of(NODE_ADDRESSES, 4).prop_map(|addresses| format!("addresses {addresses}"))
}

fn node() -> impl Strategy<Value = String> {
    prop::sample::select(NODE_LINES).prop_map(ToOwned::to_owned)
}

fn change_line() -> impl Strategy<Value = String> {
    prop_oneof![4 => service(), 6 => slice(), 2 => pod(), 2 => removal(), 1 => addresses(), 1 => node()]
}

fn history() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => change_line().prop_map(Op::Change),
        5 => Just(Op::Step),
        2 => (0..1500u64).prop_map(Op::Wait),
        1 => any::<u64>().prop_map(Op::Restart),
    ];
    prop::collection::vec(op, 1..60)
}

/// Any order, from a seed.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut random = SplitMix(seed);
    for index in (1..items.len()).rev() {
        let other = random.next() % (index as u64 + 1);
        items.swap(index, usize::try_from(other).unwrap());
    }
}

fn run(world: &mut World, history: Vec<Op>) {
    for op in history {
        match op {
            Op::Change(line) => world.change(&line),
            Op::Step => {
                world.step();
            }
            Op::Wait(millis) => world.wait(Time::from_millis(millis)),
            Op::Restart(seed) => {
                world.restart(|changes| shuffle(changes, seed));
                world.step();
            }
        }
    }
    world.settle();
    world.check();
}

/// One write in ten fails.
#[derive(Debug)]
struct OneInTen(SplitMix);

impl kernel::Failure for OneInTen {
    fn fails(&mut self) -> bool {
        self.0.next().is_multiple_of(10)
    }
}

fn desired_of_all(store: &Store) -> Vec<(Desired, Vec<Finding>)> {
    store.owners().map(|owner| desired(store, &owner)).collect()
}

fn filled(changes: impl IntoIterator<Item = Change>) -> Store {
    let mut store = super::store();
    for change in changes {
        store.apply(change, &mut Touched::default());
    }
    store
}

proptest! {
    /// Neither the order of the objects nor what was there before them matters.
    #[test]
    fn desired_is_a_function_of_the_objects(
        lines in prop::collection::vec(change_line(), 0..30),
        seed in any::<u64>(),
    ) {
        let mut reference = Reference::default();
        let changes: Vec<Change> = lines.iter().map(|line| words::change(line)).collect();
        for change in &changes {
            reference.apply(change);
        }
        let mut shuffled = reference.changes();
        shuffled.push(reference.addresses());
        shuffle(&mut shuffled, seed);
        let by_history = desired_of_all(&filled(changes));
        let anew = desired_of_all(&filled(shuffled));
        prop_assert_eq!(&by_history, &anew);
    }

    /// The kernel ends as desired, and at no write on the way is a connection led astray or refused without need.
    #[test]
    fn any_history_ends_as_desired(history in history()) {
        run(&mut World::new(ROOMY), history);
    }

    /// The same while one write in ten fails.
    #[test]
    fn failures_are_made_good(history in history(), seed in any::<u64>()) {
        let mut world = World::new(ROOMY);
        world.engine.writer.may_miss = true;
        world.engine.writer.fails = Box::new(OneInTen(SplitMix(seed)));
        run(&mut world, history);
    }

    /// Whatever the maps hold at the start, there is no panic and it is put right.
    #[test]
    fn nonsense_is_repaired(dump in nonsense(), lines in prop::collection::vec(change_line(), 0..20)) {
        let mut world = World::new(SMALL);
        world.watched = false;
        world.engine.writer.lenient = true;
        take_over(&mut world.engine.writer, &dump);
        for line in &lines {
            world.reference.apply(&words::change(line));
        }
        world.restart(|_| {});
        world.settle();
        world.check();
        prop_assert!(world.engine.audit(&world.kernel().dump()).is_empty());
    }

    /// The periodic check finds what another hand has changed, and repairs it.
    #[test]
    fn the_audit_repairs(dump in nonsense(), lines in prop::collection::vec(change_line(), 0..20)) {
        let mut world = World::new(SMALL);
        world.watched = false;
        for line in &lines {
            world.change(line);
        }
        world.settle();
        world.engine.writer.lenient = true;
        take_over(&mut world.engine.writer, &dump);
        let dump = world.kernel().dump();
        world.engine.audit(&dump);
        world.settle();
        world.check();
        prop_assert!(world.engine.audit(&world.kernel().dump()).is_empty());
    }
}

const SMALL: Capacities = Capacities {
    frontends: 64,
    services: 48,
    sets: 48,
    slots: 512,
    backends: 160,
    ranges: 32,
};

fn take_over(kernel: &mut Kernel, dump: &TableDump) {
    fn array<T: Copy>(entries: &[T]) -> BTreeMap<u32, T> {
        (0..).zip(entries.iter().copied()).collect()
    }
    kernel.frontends = dump.frontends.iter().copied().collect();
    kernel.services = array(&dump.services);
    kernel.sets = array(&dump.sets);
    kernel.slots = array(&dump.slots);
    kernel.backends = array(&dump.backends);
    kernel.ranges = dump.ranges.iter().copied().collect();
}

/// Tables of keys that Services want, and of numbers that mean nothing.
fn nonsense() -> impl Strategy<Value = TableDump> {
    let address = prop::sample::select(
        &[
            "10.96.0.1",
            "10.96.0.2",
            "fd00::1",
            "10.9.9.9",
            "192.0.2.80",
            "192.0.2.81",
        ][..],
    )
    .prop_map(|text| Address::from(text.parse::<std::net::IpAddr>().unwrap()));
    let port = prop::sample::select(&[(0, 0), (80, 6), (53, 17), (53, 6), (1, 6)][..]);
    let value = (0..4u32, 0..4u32, 0..6u32, 0..8u8).prop_map(|(service, set, local, flags)| {
        let value = FrontendValue::new(service, set, local.saturating_sub(2));
        match flags {
            0 => FrontendValue::refuse(),
            1 | 2 => value.external(),
            3 | 4 => value.external().with_source_ranges(),
            _ => value,
        }
    });
    let range = (0..4u32, 96..=128u32).prop_map(|(service, bits)| {
        let address = std::net::Ipv4Addr::new(198, 51, 100, 0);
        SourceRangeKey::new(service, address.into(), bits)
    });
    let frontend = (address, port, value).prop_map(|(address, (port, protocol), value)| {
        (FrontendKey::new(address, Port::new(port), protocol), value)
    });
    let target = (
        0..ADDRESSES.len(),
        prop::sample::select(&[8080u16, 5353][..]),
    );
    let backend = (target, 0..4u8, 0..3u64).prop_map(|((at, port), state, generation)| {
        let address: std::net::IpAddr = ADDRESSES[at].parse().unwrap();
        let port = u64::from(Port::new(port).to_be());
        let word = generation << 32 | u64::from(state) << 16 | port;
        Backend::new(address.into(), BackendWord::from_word(word))
    });
    let set = prop_oneof![
        Just(SetWord::EMPTY),
        (0..8u32, 0..5u32).prop_map(|(base, count)| SetWord::new(base * 2, count)),
        any::<u64>().prop_map(SetWord::from_word),
    ];
    let tables = (
        prop::collection::btree_map(any::<u8>(), frontend, 0..8),
        prop::collection::vec(any::<u32>().prop_map(ServiceWord::new), 0..5),
        prop::collection::vec(set, 0..5),
        prop::collection::vec(0..10u32, 0..24),
        prop::collection::vec(backend, 0..10),
        prop::collection::btree_set(range, 0..6),
    );
    let none = Backend::new(Address::UNSPECIFIED, BackendWord::from_word(0));
    tables.prop_map(
        move |(frontends, services, sets, slots, backends, ranges)| TableDump {
            frontends: frontends.into_values().collect(),
            services,
            sets: [SetWord::EMPTY].into_iter().chain(sets).collect(),
            slots,
            backends: [none].into_iter().chain(backends).collect(),
            ranges: ranges.into_iter().collect(),
        },
    )
}
