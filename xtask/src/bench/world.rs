//! What is measured in: one node, a client pod, three pods that serve every Service, an agent.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    Agent, AgentOptions, Endpoint, Families, Lab, Place, Pod, Port, Process, Service, Slice,
    eventually,
};

use crate::run;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const SERVICES_A_FILE: u32 = 500;

/// Servers and client stay where they are put: left to the scheduler, some rounds share a processor and some do not.
pub(super) const SERVER_CPU: usize = 0;

/// The processor of everything that calls.
pub(super) fn client_cpu() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors.min(2) - 1
}

pub(super) struct World {
    lab: Lab,
    pub(super) services: u32,
    pub(super) client: Pod,
    pub(super) agent: Agent,
    pods: Vec<Pod>,
    servers: Vec<Process>,
}

impl World {
    pub(super) fn build(agent: &Path, services: u32, most: u32) -> Result<Self> {
        let mut lab = Lab::new("bench")?;
        let node = lab.node("node-a", Families::Dual)?;
        let pods = node.pods(&["web-1", "web-2", "web-3"].map(str::to_owned))?;
        let servers = pods
            .iter()
            .map(|pod| {
                let place = pod.place().on_cpu(SERVER_CPU);
                place.serve(pod.name(), &[TARGET])
            })
            .collect::<Result<_>>()?;
        let client = node.pod("client")?;
        write_manifests(&lab, &pods, services)?;
        // Each Service has two ports in two families: eight frontends with those of the whole address.
        let flags = [
            "--max-services".to_owned(),
            (most * 8).max(65_536).to_string(),
        ];
        let flags = [
            flags,
            [
                "--max-backends".to_owned(),
                (most * 16).max(262_144).to_string(),
            ],
        ]
        .concat();
        let options = AgentOptions {
            binary: Some(agent.to_owned()),
            flags,
            ..AgentOptions::default()
        };
        let agent = node.agent_with(&options)?;
        let world = Self {
            lab,
            services,
            client,
            agent,
            pods,
            servers,
        };
        world.wait()?;
        Ok(world)
    }

    /// Until the last Service answers.
    fn wait(&self) -> Result<()> {
        run::say("waiting for the last Service");
        eventually("the last Service answers", || {
            let call = mesh_lab::Call::connect(self.service(self.services, false)).count(1);
            let report = self.client.place().call(&call)?;
            ensure!(report.is_clean(), "{report:?}");
            Ok(())
        })
    }

    /// The address of a Service, 1 to `services`.
    pub(super) fn service(&self, number: u32, v6: bool) -> SocketAddr {
        let (v4_ip, v6_ip) = addresses(number);
        SocketAddr::new(if v6 { v6_ip } else { v4_ip }, PORT)
    }

    /// First, middle and last.
    pub(super) fn places(&self) -> [u32; 3] {
        [1, self.services.div_ceil(2), self.services]
    }

    /// A pod's own address.
    pub(super) fn direct(&self, v6: bool) -> Result<SocketAddr> {
        let address = self.pods[0].address();
        let ip = if v6 {
            address.v6.map(IpAddr::V6)
        } else {
            address.v4.map(IpAddr::V4)
        };
        Ok(SocketAddr::new(
            ip.context("the lab is dual stack")?,
            TARGET,
        ))
    }

    /// Where the hooks are called.
    pub(super) fn hooked(&self) -> Place {
        self.client.place().on_cpu(client_cpu())
    }

    /// Where nothing is attached.
    pub(super) fn bare(&self) -> Result<Place> {
        Ok(self.client.bare_place()?.on_cpu(client_cpu()))
    }

    /// Resident memory of the agent and what its maps take.
    pub(super) fn memory(&self) -> Result<String> {
        let metrics = self.agent.metrics()?;
        let mebibytes = |name: &str| metrics.sum(name, &[]) / f64::from(1 << 20);
        Ok(format!(
            "{} Services, TCP and UDP, IPv4 and IPv6, 3 endpoints each: {:.1} MiB resident, {:.1} MiB of maps",
            self.services,
            mebibytes("process_resident_memory_bytes"),
            mebibytes("mesh_agent_map_bytes")
        ))
    }

    pub(super) fn close(self) -> Result<()> {
        drop(self.agent);
        drop(self.servers);
        self.lab.close()
    }
}

fn addresses(number: u32) -> (IpAddr, IpAddr) {
    let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + number);
    let [.., high, low] = number.to_be_bytes();
    let [_, second, ..] = number.to_be_bytes();
    let v6 = Ipv6Addr::new(
        0xfd00,
        0x10,
        0x96,
        0,
        0,
        0,
        second.into(),
        u16::from_be_bytes([high, low]),
    );
    (v4.into(), v6.into())
}

fn write_manifests(lab: &Lab, pods: &[Pod], services: u32) -> Result<()> {
    let ports = [
        Port::tcp("http", PORT, TARGET),
        Port::udp("dns", PORT, TARGET),
    ];
    let endpoints: Vec<Endpoint> = pods
        .iter()
        .flat_map(|pod| pod.address().all())
        .map(Endpoint::ready)
        .collect();
    let source = lab.source();
    for first in (1..=services).step_by(SERVICES_A_FILE as usize) {
        let mut objects = Vec::new();
        for number in first..=services.min(first + SERVICES_A_FILE - 1) {
            let name = format!("web-{number}");
            let (v4, v6) = addresses(number);
            objects.push(Service::new(&name, &[v4, v6], &ports).json());
            objects.extend(
                Slice::by_family(&name, &ports, &endpoints)
                    .iter()
                    .map(Slice::json),
            );
        }
        source.write(&format!("services-{first:05}.json"), &objects)?;
    }
    Ok(())
}
