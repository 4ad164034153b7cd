//! A Service and the pods behind it: real servers, and manifests that say of each what the test wants to be true.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    lab::Pod,
    manifest::{Endpoint, Port, Service, Slice, Source},
    process::Process,
};

/// Node ports are a Service's ports above this.
pub(crate) const NODE_PORTS: u16 = 30_000;

/// What the EndpointSlices say of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Ready for new connections.
    Ready,
    /// Not ready, not terminating.
    Unready,
    /// Terminating and still serving.
    Terminating,
    /// In no slice.
    Gone,
}

#[derive(Debug)]
struct Member {
    pod: Pod,
    /// None if the pod is another Deployment's, which has its servers, or if they were killed.
    server: Option<Process>,
    condition: Condition,
}

/// A Service and its pods. Server names are those of the pods.
#[derive(Debug)]
pub struct Deployment {
    name: String,
    addresses: Vec<IpAddr>,
    ports: Vec<Port>,
    affinity_seconds: Option<u32>,
    spec: Vec<(String, Value)>,
    load_balancers: Vec<IpAddr>,
    members: Vec<Member>,
}

impl Deployment {
    /// A Service with these ClusterIPs and ports, without pods.
    pub fn new(name: &str, addresses: &[&str], ports: &[Port]) -> Result<Self> {
        let addresses = addresses.iter().map(|address| {
            let parsed: Result<IpAddr, _> = address.parse();
            parsed.with_context(|| format!("{address} is no address"))
        });
        Ok(Self {
            name: name.to_owned(),
            addresses: addresses.collect::<Result<_>>()?,
            ports: ports.to_vec(),
            affinity_seconds: None,
            spec: Vec::new(),
            load_balancers: Vec::new(),
            members: Vec::new(),
        })
    }

    /// sessionAffinity ClientIP with this timeout.
    pub fn set_affinity(&mut self, seconds: u32) {
        self.affinity_seconds = Some(seconds);
    }

    /// Any field of the Service's spec, from the next `publish` on.
    pub fn set_spec(&mut self, field: &str, value: Value) {
        self.spec.retain(|(known, _)| known != field);
        self.spec.push((field.to_owned(), value));
    }

    /// From the next `publish` on, each port is served on every node too, at 30,000 and its number.
    pub fn set_node_ports(&mut self) {
        self.set_spec("type", json!("NodePort"));
    }

    /// The same, and it has these external IPs and load balancers' ones too.
    pub fn set_outside(&mut self, external: &[IpAddr], load_balancers: &[IpAddr]) {
        self.set_spec("type", json!("LoadBalancer"));
        self.set_spec("externalIPs", json!(external));
        self.load_balancers = load_balancers.to_vec();
    }

    /// Starts the pod's servers and counts it among the ready.
    pub fn add(&mut self, pod: &Pod) -> Result<()> {
        let mut ports: Vec<u16> = self.ports.iter().map(|port| port.target).collect();
        ports.sort_unstable();
        ports.dedup();
        self.members.push(Member {
            pod: pod.clone(),
            server: Some(pod.place().serve(pod.name(), &ports)?),
            condition: Condition::Ready,
        });
        Ok(())
    }

    /// Counts a pod of another Deployment's, with the same target ports, among the ready.
    pub fn share(&mut self, pod: &Pod) {
        self.members.push(Member {
            pod: pod.clone(),
            server: None,
            condition: Condition::Ready,
        });
    }

    /// Says something else of a pod, from the next `publish` on.
    pub fn set(&mut self, pod: &str, condition: Condition) -> Result<()> {
        self.member(pod)?.condition = condition;
        Ok(())
    }

    /// Ends a pod's servers at once, whoever calls them.
    pub fn kill(&mut self, pod: &str) -> Result<()> {
        let server = self.member(pod)?.server.take();
        server.map_or(Ok(()), |mut server| server.kill())
    }

    /// Ends a pod's servers, when nothing comes to them any more, and forgets the pod.
    pub fn stop(&mut self, pod: &str) -> Result<()> {
        if let Some(server) = &mut self.member(pod)?.server {
            server.stop()?;
        }
        self.members.retain(|member| member.pod.name() != pod);
        Ok(())
    }

    /// Ends and forgets all pods that are in no slice, as `stop` does one.
    pub fn stop_gone(&mut self) -> Result<()> {
        let is_gone = |member: &Member| member.condition == Condition::Gone;
        let gone = self.members.iter().filter(|member| is_gone(member));
        for server in gone.filter_map(|member| member.server.as_ref()) {
            server.signal(Signal::SIGTERM)?;
        }
        for member in &mut self.members {
            if let (true, Some(server)) = (is_gone(member), &mut member.server) {
                server.stop()?;
            }
        }
        self.members.retain(|member| !is_gone(member));
        Ok(())
    }

    fn member(&mut self, pod: &str) -> Result<&mut Member> {
        let name = &self.name;
        let member = self
            .members
            .iter_mut()
            .find(|member| member.pod.name() == pod);
        member.with_context(|| format!("{name} has no pod {pod}"))
    }

    /// A pod's addresses.
    pub fn addresses_of(&self, pod: &str) -> Result<Vec<IpAddr>> {
        Ok(self.pod(pod)?.address().all().collect())
    }

    /// A pod of it.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        let member = self.members.iter().find(|member| member.pod.name() == name);
        let member = member.with_context(|| format!("{} has no pod {name}", self.name))?;
        Ok(&member.pod)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the pods that get new connections.
    #[must_use]
    pub fn ready(&self) -> Vec<String> {
        let ready = self
            .members
            .iter()
            .filter(|member| member.condition == Condition::Ready);
        ready.map(|member| member.pod.name().to_owned()).collect()
    }

    /// The Service's IPv4 address with the port of this name.
    pub fn v4(&self, port: &str) -> Result<SocketAddr> {
        self.frontend(port, IpAddr::is_ipv4)
    }

    /// The Service's IPv6 address with the port of this name.
    pub fn v6(&self, port: &str) -> Result<SocketAddr> {
        self.frontend(port, IpAddr::is_ipv6)
    }

    fn frontend(&self, port: &str, family: impl Fn(&IpAddr) -> bool) -> Result<SocketAddr> {
        let Some(address) = self.addresses.iter().find(|address| family(address)) else {
            bail!("{} has no address of this family", self.name);
        };
        let port = self.ports.iter().find(|candidate| candidate.name == port);
        let port = port.with_context(|| format!("{} has no such port", self.name))?;
        Ok(SocketAddr::new(*address, port.port))
    }

    /// The Service and its EndpointSlices.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        let mut service = Service::new(&self.name, &self.addresses, &self.ports);
        if let Some(seconds) = self.affinity_seconds {
            service = service.affinity(seconds);
        }
        let mut service = service.json();
        for (field, value) in &self.spec {
            service["spec"][field] = value.clone();
        }
        if service["spec"]["type"] != "ClusterIP" {
            for (index, port) in self.ports.iter().enumerate() {
                service["spec"]["ports"][index]["nodePort"] = json!(NODE_PORTS + port.port);
            }
        }
        if !self.load_balancers.is_empty() {
            let ingress = self.load_balancers.iter().map(|ip| json!({"ip": ip}));
            let ingress: Vec<Value> = ingress.collect();
            service["status"] = json!({"loadBalancer": {"ingress": ingress}});
        }
        let endpoints: Vec<Endpoint> = self.members.iter().flat_map(endpoints).collect();
        let slices = Slice::by_family(&self.name, &self.ports, &endpoints);
        let slices = slices.iter().map(Slice::json);
        std::iter::once(service).chain(slices).collect()
    }

    /// Writes the objects into a file of the Service's name.
    pub fn publish(&self, source: &Source) -> Result<()> {
        source.write(&format!("{}.json", self.name), &self.objects())
    }
}

fn endpoints(member: &Member) -> Vec<Endpoint> {
    let (ready, serving, terminating) = match member.condition {
        Condition::Ready => (true, true, false),
        Condition::Unready => (false, false, false),
        Condition::Terminating => (false, true, true),
        Condition::Gone => return Vec::new(),
    };
    let endpoints = member.pod.address().all().map(|address| Endpoint {
        address,
        ready,
        serving,
        terminating,
        node: Some(member.pod.node().to_owned()),
    });
    endpoints.collect()
}
