//! Many endpoints, one Service with very many, and very many changes, through the real API server: in the end the kernel
//! holds what the API server holds, and nothing has grown. A tenth of it, unless there is time (`cargo xtask test --long`).

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use mesh_lab::{
    Agent, Client, ControlPlane, Endpoint, Families, Lab, Many, Needs, Port, Service, Slice,
    Tables, eventually, test,
};
use serde_json::{Value, json};

/// Objects that are made by one call.
const AT_ONCE: u32 = 1_000;
/// What a slice may have.
const PER_SLICE: u32 = 1_000;
const WRITERS: u32 = 8;

/// How much.
struct Size {
    many: Many,
    /// Endpoints of the greatest Service.
    greatest: u32,
    /// Changes a second that are asked for, and for how long.
    rate: u32,
    time: Duration,
}

impl Size {
    fn new() -> Self {
        let long = std::env::var_os("MESH_LONG").is_some();
        let factor = if long { 10 } else { 1 };
        Self {
            many: Many {
                services: 1_000 * factor,
                endpoints: 10,
            },
            greatest: 1_000 * factor,
            rate: 1_000,
            time: Duration::from_secs(if long { 60 } else { 6 }),
        }
    }

    /// The greatest Service, with its slices.
    fn greatest(&self) -> Vec<Value> {
        let ports = [Port::tcp("http", 80, 8080)];
        let address = Ipv4Addr::new(10, 96, 24, 1).into();
        let mut objects = vec![Service::new("greatest", &[address], &ports).json()];
        for first in (0..self.greatest).step_by(PER_SLICE as usize) {
            let endpoint = |number: u32| {
                let [_, _, c, d] = number.to_be_bytes();
                Endpoint::ready(Ipv4Addr::new(10, 210, c, d).into())
            };
            let endpoints: Vec<_> = (first..first + PER_SLICE).map(endpoint).collect();
            let name = format!("greatest-{first}");
            objects.push(Slice::new(&name, "greatest", &ports, &endpoints).json());
        }
        objects
    }

    fn objects(&self) -> Vec<Value> {
        let services = 0..self.many.services;
        let many = services.flat_map(|service| self.many.objects(service));
        many.chain(self.greatest()).collect()
    }
}

struct World {
    size: Size,
    client: Client,
    agent: Agent,
}

impl World {
    fn new(lab: &mut Lab) -> Result<Self> {
        lab.use_control_plane()?;
        let control_plane = lab.control_plane().context("it was started")?;
        let (size, client) = (Size::new(), control_plane.client()?);
        make(&client, &size.objects())?;
        let agent = lab.node("one", Families::V4)?.agent()?;
        Ok(Self {
            size,
            client,
            agent,
        })
    }

    /// The kernel holds what the API server holds; says how much that is.
    fn ensure_equal(&self, when: &str) -> Result<()> {
        let begin = Instant::now();
        let endpoints = eventually(when, || {
            let list = |version, kind| self.client.list(version, kind, None, "");
            let (services, slices) = (
                list("v1", "Service")?,
                list("discovery.k8s.io/v1", "EndpointSlice")?,
            );
            let wanted = Tables::wanted(&services, &slices)?;
            Tables::held(&self.agent)?.ensure_are(&wanted)?;
            Ok(wanted.frontends.len())
        })?;
        println!(
            "{when}: {endpoints} frontends equal after {:?}, {} MiB resident",
            begin.elapsed(),
            self.resident()?
        );
        Ok(())
    }

    /// MiB of the agent.
    fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.agent.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kibibytes.context("no VmRSS")?.parse::<u64>()? / 1024)
    }

    /// Takes endpoints away and gives them back, each change another Service's. Gives how many there were.
    fn change(&self, control_plane: &ControlPlane) -> Result<u32> {
        let (next, deadline) = (AtomicU32::new(0), Instant::now() + self.size.time);
        let clients = (0..WRITERS).map(|_| control_plane.client());
        let clients = clients.collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            let writers: Vec<_> = clients
                .iter()
                .map(|client| scope.spawn(|| self.write_until(client, &next, deadline)))
                .collect();
            writers
                .into_iter()
                .try_for_each(|writer| writer.join().map_err(|_| anyhow!("a writer broke down"))?)
        })?;
        Ok(next.into_inner())
    }

    fn write_until(&self, client: &Client, next: &AtomicU32, deadline: Instant) -> Result<()> {
        let pause = Duration::from_secs(1) * WRITERS / self.size.rate;
        let mut due = Instant::now();
        while due < deadline {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += pause;
            if Instant::now() >= deadline {
                break;
            }
            let number = next.fetch_add(1, Ordering::Relaxed);
            let (service, round) = (
                number % self.size.many.services,
                number / self.size.many.services,
            );
            let endpoints = self.size.many.endpoints - 1 - round % 5;
            let objects = self.size.many.objects_of(service, endpoints);
            let slice = objects.last().context("a Service and its slice")?;
            let patch = json!({"endpoints": slice["endpoints"]});
            let name = slice["metadata"]["name"].as_str().context("a name")?;
            client.patch("discovery.k8s.io/v1", "EndpointSlice", name, &patch)?;
        }
        Ok(())
    }
}

fn make(client: &Client, objects: &[Value]) -> Result<()> {
    for some in objects.chunks(AT_ONCE as usize) {
        client.create_all(some)?;
    }
    Ok(())
}

#[test]
fn very_many_endpoints_and_changes() -> Result<()> {
    test("scale", Needs::ControlPlane, |lab| {
        let world = World::new(lab)?;
        world.ensure_equal("at the start")?;
        let before = world.resident()?;

        let control_plane = lab.control_plane().context("it was started")?;
        let begin = Instant::now();
        let changes = world.change(control_plane)?;
        println!("{changes} changes in {:?}", begin.elapsed());
        ensure!(changes > 0);
        world.ensure_equal("after the changes")?;

        let objects = world.size.objects();
        for round in 1..=2 {
            world.client.delete_all(&objects)?;
            world.ensure_equal("all deleted")?;
            make(&world.client, &objects)?;
            world.ensure_equal(&format!("made again, {round}"))?;
        }
        let after = world.resident()?;
        ensure!(
            after <= before + before / 4 + 8,
            "{before} MiB resident, and {after} MiB after all"
        );
        Ok(())
    })
}
