//! What the engine itself costs: 10,000 Services of 10 endpoints over a writer that does nothing, then single endpoint
//! changes. Prints times, writes and resident memory.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc, time::Instant};

use mesh_agent::{
    apply::{Clock, MapWriter, WriteError},
    engine::{Engine, SplitMix},
    model::{
        Change, Endpoint, EndpointSlice, Kind, Object, ObjectName, Protocol, Service, ServicePort,
        ServiceType, SlicePort, TargetPort, TrafficPolicy,
    },
    plan::{Applied, Capacities, Time, Write},
    store::Store,
};

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 10;
const CHANGES: u32 = 1_000;

struct Nothing;

impl MapWriter for Nothing {
    fn write(&mut self, _: &Write) -> Result<(), WriteError> {
        Ok(())
    }

    fn grace(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

struct Since(Instant);

impl Clock for Since {
    fn now(&self) -> Time {
        self.0.elapsed()
    }
}

fn service(n: u32) -> Service {
    Service {
        name: ObjectName::new("default", &format!("service-{n}")),
        created: Some(i64::from(n)),
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec![Ipv4Addr::from_bits(0x0a60_0000 + n).into()],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: BTreeSet::new(),
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            target: TargetPort::Number(8080),
            node_port: None,
        }],
        selector: [(Arc::from("app"), format!("service-{n}").into())].into(),
        affinity_seconds: None,
        publish_not_ready: false,
        distribution: None,
        health_check_port: None,
    }
}

fn slice(n: u32, first: u32) -> EndpointSlice {
    let endpoint = |k: u32| Endpoint {
        address: Ipv4Addr::from_bits(0x0a80_0000 + n * ENDPOINTS + if k == 0 { first } else { k })
            .into(),
        pod: None,
        ready: true,
        serving: true,
        terminating: false,
        node: Some("node".into()),
        hints: None,
    };
    EndpointSlice {
        name: ObjectName::new("default", &format!("service-{n}-abcde")),
        service: Some(format!("service-{n}").into()),
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: (0..ENDPOINTS).map(endpoint).collect(),
        triggered: None,
    }
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<f64>().ok())
        .unwrap_or(f64::NAN)
        / 1024.0
}

fn main() {
    let capacities = Capacities {
        frontends: 65_536,
        services: 65_536,
        sets: 131_072,
        slots: 1_048_576,
        backends: 262_144,
        ranges: 16_384,
    };
    let applied = Applied::new(capacities);
    let clock = Since(Instant::now());
    let mut engine = Engine::new(Store::default(), applied, Nothing, clock, SplitMix(1));
    let started = Instant::now();
    for n in 0..SERVICES {
        let objects = [
            Object::Service(service(n)),
            Object::EndpointSlice(slice(n, 0)),
        ];
        engine.submit(objects.map(Change::Put));
    }
    engine.submit(Kind::ALL.map(Change::Synced));
    engine.submit([Change::NodeAddresses(BTreeSet::new())]);
    let stored = started.elapsed();
    let report = engine.step();
    println!(
        "{SERVICES} Services x {ENDPOINTS}: stored in {stored:?}, programmed in {:?}: {} calls, {} stores; {:.1} MiB",
        started.elapsed() - stored,
        report.map_ops,
        report.stores,
        resident_mib()
    );
    let mut times: Vec<_> = (0..CHANGES)
        .map(|n| {
            let changed = slice(n * 7 % SERVICES, 2_000_000);
            let started = Instant::now();
            engine.submit([Change::Put(Object::EndpointSlice(changed))]);
            let report = engine.step();
            (started.elapsed(), report.map_ops, report.stores)
        })
        .collect();
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100);
    println!(
        "one endpoint (time, calls, stores): median {:?}, 99 % {:?}, worst {:?}",
        at(50),
        at(99),
        times.last()
    );
}
