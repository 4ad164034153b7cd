//! Fields of Services that the real controllers turn into slices and hints: where the agent then leads its clients.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    Agent, Client, Families, Lab, Needs, Node, Pod, PodManifest, Port, Process, Service,
    eventually, node, settle, test,
};
use serde_json::{Value, json};

const ADDRESS: [u8; 4] = [10, 96, 0, 80];

/// Two nodes in two zones with two pods each, and an agent on the first.
struct World {
    client: Client,
    place: Pod,
    pods: Vec<(Pod, Port)>,
    agent: Agent,
    _servers: Vec<Process>,
}

fn in_zone(node: &Node, manifest: &mut Value) {
    let zone = format!("zone-{}", node.name());
    manifest["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": zone});
    manifest["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    manifest["status"]["allocatable"] = json!({"cpu": "4"});
}

impl World {
    fn new(lab: &mut Lab) -> Result<Self> {
        lab.use_control_plane()?;
        let client = lab.control_plane().context("it was started")?.client()?;
        let nodes = [
            lab.node("one", Families::V4)?,
            lab.node("two", Families::V4)?,
        ];
        let agent = nodes[0].agent()?;
        let (mut pods, mut servers) = (Vec::new(), Vec::new());
        for (number, own) in nodes.iter().cycle().take(4).enumerate() {
            let mut manifest = node(own);
            in_zone(own, &mut manifest);
            client.apply(&manifest)?;
            let pod = own.pod(&format!("web-{number}"))?;
            // One name, and a number for each half of the pods.
            let port = Port::tcp("http", 80, if number < 2 { 8080 } else { 9090 });
            servers.push(pod.place().serve(pod.name(), &[port.target])?);
            pods.push((pod, port));
        }
        Ok(Self {
            client,
            place: nodes[0].pod("client")?,
            pods,
            agent,
            _servers: servers,
        })
    }

    fn manifests(&self) -> Vec<PodManifest> {
        let pods = self.pods.iter();
        pods.map(|(pod, port)| PodManifest::new(pod, "web", std::slice::from_ref(port)))
            .collect()
    }

    /// The Service with these fields, by a named port.
    fn apply(&self, fields: &[(&str, Value)]) -> Result<()> {
        let ports = [Port::tcp("http", 80, 8080)];
        let service = Service::new("web", &[IpAddr::from(ADDRESS)], &ports).selector("web");
        let mut service = service.json();
        service["spec"]["ports"][0]["targetPort"] = json!("http");
        for (field, value) in fields {
            service["spec"][field] = value.clone();
        }
        self.client.apply(&service).map(drop)
    }

    fn ensure_led(&self, names: &[&str]) -> Result<()> {
        let to = SocketAddr::new(IpAddr::from(ADDRESS), 80);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        settle(&self.place.place(), to, &names)
    }
}

#[test]
fn traffic_distribution_is_followed() -> Result<()> {
    test("distribution", Needs::ControlPlane, |lab| {
        let world = World::new(lab)?;
        for manifest in world.manifests() {
            world.client.apply(&manifest.json())?;
        }
        world.apply(&[])?;
        world.ensure_led(&["web-0", "web-1", "web-2", "web-3"])?;
        for preference in ["PreferSameZone", "PreferSameNode", "PreferClose"] {
            world.apply(&[("trafficDistribution", json!(preference))])?;
            world.ensure_led(&["web-0", "web-2"])?;
            // The next one has something to change.
            world.apply(&[("trafficDistribution", json!("PreferSameNode"))])?;
        }
        eventually("it is explained", || {
            let explained = world.agent.cli(&["service", "explain", "default/web"])?;
            let explained = explained.ok()?.stdout;
            let said = "its hints are for other nodes";
            ensure!(explained.contains(said), "{explained}");
            Ok(())
        })?;
        // Nobody is left in the zone.
        for number in [0, 2] {
            world
                .client
                .apply(&world.manifests().remove(number).unready().json())?;
        }
        world.ensure_led(&["web-1", "web-3"])?;
        world.apply(&[("internalTrafficPolicy", json!("Local"))])?;
        world.ensure_led(&[])
    })
}

#[test]
fn addresses_that_are_not_ready_are_published_on_demand() -> Result<()> {
    test("publish", Needs::ControlPlane, |lab| {
        let world = World::new(lab)?;
        for manifest in world.manifests() {
            world.client.apply(&manifest.unready().json())?;
        }
        world.apply(&[])?;
        world.ensure_led(&[])?;
        world.apply(&[("publishNotReadyAddresses", json!(true))])?;
        world.ensure_led(&["web-0", "web-1", "web-2", "web-3"])
    })
}
