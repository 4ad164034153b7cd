//! What is compared in: one API server, a node with all endpoints, and a node with a client for each contender. Nothing of
//! a contender touches another's node: what kube-proxy leaves in a namespace would slow down whoever comes after it.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context, Result};
use mesh_lab::{Client, ControlPlane, Families, Lab, Node, Place, Pod, Process};

use super::{
    contender::Contender,
    objects::{self, ENDPOINTS, PROBE, TARGET},
};
use crate::{
    bench::world::{SERVER_CPU, client_cpu},
    run,
};

const BATCH: usize = 2_000;

/// A contender's node and the client on it.
pub(super) struct Seat {
    pub(super) contender: Contender,
    pub(super) node: Node,
    client: Pod,
}

impl Seat {
    /// Where the client calls from.
    pub(super) fn client(&self) -> Place {
        on_client_cpu(&self.client)
    }
}

fn on_client_cpu(pod: &Pod) -> Place {
    pod.place().on_cpu(client_cpu())
}

pub(super) struct World {
    lab: Lab,
    pub(super) seats: Vec<Seat>,
    pub(super) api: Client,
    pods: Vec<Pod>,
    /// On a node with nothing in the way.
    alone: Pod,
    /// Two pods that stand in for each other as the endpoint of the probed Service.
    pub(super) witnesses: [Pod; 2],
    servers: Vec<Process>,
    /// How many Services there are, and which of them have real endpoints.
    pub(super) services: u32,
    pub(super) real: BTreeSet<u32>,
    /// How often the endpoints where nobody is have been changed so far.
    pub(super) passes: u32,
}

impl World {
    pub(super) fn build(contenders: &[Contender]) -> Result<Self> {
        let mut lab = Lab::new("rival")?;
        lab.use_control_plane()?;
        let far = lab.node("servers", Families::V4)?;
        let names: Vec<String> = (0..ENDPOINTS)
            .map(|number| format!("web-{number}"))
            .collect();
        let pods = far.pods(&names)?;
        let servers = pods
            .iter()
            .map(|pod| pod.place().on_cpu(SERVER_CPU).serve(pod.name(), &[TARGET]))
            .collect::<Result<_>>()?;
        let witnesses = [far.pod("a")?, far.pod("b")?];
        let alone = lab.node("alone", Families::V4)?.pod("client")?;
        let mut seats = Vec::new();
        for contender in contenders {
            let node = lab.node(contender.name(), Families::V4)?;
            let client = node.pod("client")?;
            seats.push(Seat {
                contender: *contender,
                node,
                client,
            });
        }
        let api = control_plane(&mut lab)?.client()?;
        api.create_all(&[
            objects::service(PROBE),
            objects::slice(PROBE, &[v4(&witnesses[0])?]),
        ])?;
        Ok(Self {
            lab,
            seats,
            api,
            pods,
            alone,
            witnesses,
            servers,
            services: 0,
            real: BTreeSet::new(),
            passes: 0,
        })
    }

    /// More Services, without EndpointSlices as yet.
    pub(super) fn add_services(&self, services: u32) -> Result<()> {
        let manifests: Vec<_> = (self.services + 1..=services)
            .map(objects::service)
            .collect();
        self.create(&manifests)
    }

    /// The EndpointSlices of those that `add_services` made.
    pub(super) fn add_slices(&mut self, services: u32) -> Result<()> {
        let real = objects::real(services);
        let ends = self.real_endpoints()?;
        let manifests: Vec<_> = (self.services + 1..=services)
            .map(|number| {
                if real.contains(&number) {
                    return objects::slice(number, &ends);
                }
                objects::slice(number, &objects::nobody(number, self.passes))
            })
            .collect();
        self.create(&manifests)?;
        let late: Vec<u32> = real.difference(&self.real).copied().collect();
        for number in late.into_iter().filter(|number| *number <= self.services) {
            self.patch(number, &ends)?;
        }
        self.real.extend(real);
        self.services = services;
        Ok(())
    }

    /// Gives a Service other endpoints.
    fn patch(&self, number: u32, ends: &[IpAddr]) -> Result<()> {
        patch(&self.api, number, ends)
    }

    fn create(&self, manifests: &[serde_json::Value]) -> Result<()> {
        for (number, batch) in manifests.chunks(BATCH).enumerate() {
            if number > 0 && number % 5 == 0 {
                run::say(&format!(
                    "{} of {} objects",
                    number * BATCH,
                    manifests.len()
                ));
            }
            self.api.create_all(batch)?;
        }
        Ok(())
    }

    fn real_endpoints(&self) -> Result<Vec<IpAddr>> {
        self.pods.iter().map(v4).collect()
    }

    /// One more client of the API server.
    pub(super) fn new_client(&mut self) -> Result<Client> {
        control_plane(&mut self.lab)?.client()
    }

    pub(super) fn kubeconfig(&mut self) -> Result<std::path::PathBuf> {
        Ok(control_plane(&mut self.lab)?.kubeconfig().to_owned())
    }

    /// A client with nothing in the way.
    pub(super) fn alone(&self) -> Place {
        on_client_cpu(&self.alone)
    }

    /// A directory for files.
    pub(super) fn files(&self) -> &std::path::Path {
        self.lab.files()
    }

    /// A real endpoint's own address.
    pub(super) fn direct(&self) -> Result<std::net::SocketAddr> {
        Ok((v4(&self.pods[0])?, TARGET).into())
    }

    /// The last words of every process, for a failure.
    pub(super) fn logs(&self) -> String {
        self.lab.logs()
    }

    pub(super) fn close(self) -> Result<()> {
        drop(self.servers);
        drop(self.api);
        self.lab.close()
    }
}

/// Gives a Service other endpoints.
pub(super) fn patch(api: &Client, number: u32, ends: &[IpAddr]) -> Result<()> {
    let patch = objects::endpoints_patch(number, ends);
    api.patch(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        &objects::name(number),
        &patch,
    )
    .map(drop)
}

pub(super) fn v4(pod: &Pod) -> Result<IpAddr> {
    pod.address()
        .v4
        .map(IpAddr::V4)
        .context("the pod has no IPv4 address")
}

fn control_plane(lab: &mut Lab) -> Result<&mut ControlPlane> {
    lab.control_plane().context("the lab has a control plane")
}
