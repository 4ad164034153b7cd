//! Node ports, external IPs, load balancers' IPs and host ports, asked for by pods and host processes through their sockets; host
//! ports also by what no socket hook sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Endpoint, Families, Needs, Place, Pod, PodManifest, Port, Scene, Service,
    Slice, ensure_clean, eventually, settle, test,
};
use serde_json::{Value, json};

const NODE_PORT: u16 = 30080;
const OUTSIDE: [&str; 2] = ["198.51.100.7", "fd00:51:100::7"];
const BALANCED: [&str; 2] = ["198.51.100.8", "fd00:51:100::8"];
const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// TCP and UDP on one number.
fn ports() -> Vec<Port> {
    vec![Port::tcp("http", 80, 8080), Port::udp("dns", 80, 8080)]
}

/// The objects of a Service in front of the pods of `web`.
fn front(scene: &Scene, name: &str, last: u8) -> Result<Vec<Value>> {
    let addresses = [
        format!("10.96.0.{last}").parse()?,
        format!("fd00:10:96::{last}").parse()?,
    ];
    let mut endpoints = Vec::new();
    for pod in scene.web.ready() {
        let addresses = scene.web.addresses_of(&pod)?;
        endpoints.extend(addresses.into_iter().map(Endpoint::ready));
    }
    let service = Service::new(name, &addresses, &ports());
    let slices = Slice::by_family(name, &ports(), &endpoints);
    let slices = slices.iter().map(Slice::json);
    Ok(std::iter::once(service.json()).chain(slices).collect())
}

fn publish(scene: &Scene, objects: &[Value]) -> Result<()> {
    scene.source.write("kinds.json", objects)
}

/// Every kind of socket of a pod and of a host process is led to these.
fn ensure_served(scene: &Scene, to: SocketAddr, names: &[String]) -> Result<()> {
    for place in [scene.client.place(), scene.one.host()] {
        ensure_served_at(&place, to, names)?;
    }
    Ok(())
}

fn ensure_served_at(place: &Place, to: SocketAddr, names: &[String]) -> Result<()> {
    settle(place, to, names)?;
    for call in [
        Call::connect(to),
        Call::connect(to).udp(),
        Call::connect(to).unconnected(),
        Call::rr(to),
    ] {
        ensure_clean(&place.call(&call.count(100))?)?;
    }
    Ok(())
}

fn with_node_ports(service: &mut Value) {
    service["spec"]["type"] = json!("NodePort");
    for port in [0, 1] {
        service["spec"]["ports"][port]["nodePort"] = json!(NODE_PORT);
    }
}

/// The frontends of the kernel, as ADDRESS:PORT.
fn frontends(scene: &Scene) -> Result<Vec<(IpAddr, u64)>> {
    let dump = scene.agent.json(&["bpf", "frontends"])?;
    let rows = dump["items"].as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for row in rows {
        let address = row["address"].as_str().unwrap_or_default().parse()?;
        found.push((address, row["port"].as_u64().unwrap_or_default()));
    }
    Ok(found)
}

#[test]
fn node_ports_are_served_at_the_nodes_addresses() -> Result<()> {
    test("node-port", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        let mut objects = front(&scene, "out", 30)?;
        with_node_ports(&mut objects[0]);
        publish(&scene, &objects)?;
        for address in scene.one.address().all() {
            let to = SocketAddr::new(address, NODE_PORT);
            ensure_served(&scene, to, &scene.web.ready())?;
        }
        let held = frontends(&scene)?;
        let own: Vec<IpAddr> = scene.one.address().all().collect();
        let at_node = held
            .iter()
            .filter(|(_, port)| *port == u64::from(NODE_PORT));
        let at_node: Vec<IpAddr> = at_node.map(|(address, _)| *address).collect();
        let of_own = at_node.iter().filter(|address| own.contains(address));
        ensure!(of_own.count() == 2 * own.len(), "{held:?}");
        ensure!(!at_node.iter().any(IpAddr::is_loopback), "{held:?}");
        let list = scene.agent.cli(&["service", "list"])?.ok()?.stdout;
        ensure!(list.contains("80:30080/TCP"), "{list}");
        // It goes with its number.
        publish(&scene, &front(&scene, "out", 30)?)?;
        eventually("the node port is gone", || {
            let held = frontends(&scene)?;
            let left = held.iter().any(|(_, port)| *port == u64::from(NODE_PORT));
            ensure!(!left, "{held:?}");
            Ok(())
        })
    })
}

/// What of the node's addresses --nodeport-addresses leaves out is nobody's.
#[test]
fn node_ports_keep_to_their_addresses() -> Result<()> {
    test("node-port-at", Needs::Agent, |lab| {
        let options = AgentOptions::flags(&["--nodeport-addresses", "172.31.0.0/16,2001:db8::/64"]);
        let scene = Scene::with(lab, Families::Dual, 2, &options)?;
        let mut objects = front(&scene, "out", 30)?;
        with_node_ports(&mut objects[0]);
        publish(&scene, &objects)?;
        for address in scene.one.address().all() {
            let to = SocketAddr::new(address, NODE_PORT);
            let names = if address.is_ipv4() {
                scene.web.ready()
            } else {
                Vec::new()
            };
            settle(&scene.client.place(), to, &names)?;
        }
        Ok(())
    })
}

#[test]
fn external_and_load_balancers_addresses_are_served() -> Result<()> {
    test("external", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        // In mode Proxy the address is the load balancer's: here another node's, where a server of its own answers.
        let proxies: Vec<IpAddr> = scene.two.address().all().collect();
        let _proxy = scene.two.host().serve_on("proxy", &proxies, &[80])?;
        let mut objects = front(&scene, "out", 30)?;
        objects[0]["spec"]["type"] = json!("LoadBalancer");
        objects[0]["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
        objects[0]["spec"]["externalIPs"] = json!(OUTSIDE);
        let mut ingress = vec![json!({"ip": BALANCED[0]})];
        ingress.push(json!({"ip": BALANCED[1], "ipMode": "VIP"}));
        ingress.extend(
            proxies
                .iter()
                .map(|ip| json!({"ip": ip, "ipMode": "Proxy"})),
        );
        objects[0]["status"] = json!({"loadBalancer": {"ingress": ingress}});
        publish(&scene, &objects)?;
        for address in OUTSIDE.iter().chain(&BALANCED) {
            let to = SocketAddr::new(address.parse()?, 80);
            ensure_served(&scene, to, &scene.web.ready())?;
        }
        for address in proxies {
            let to = SocketAddr::new(address, 80);
            settle(&scene.client.place(), to, &["proxy".to_owned()])?;
        }
        let shown = scene.agent.cli(&["service", "explain", "default/out"])?;
        let shown = shown.ok()?.stdout;
        for wanted in [
            "external IPs: 198.51.100.7",
            "load balancer: 198.51.100.8",
            "198.51.100.8:80, for clients inside and outside the cluster",
            "10.96.0.30:80, for clients of the cluster",
        ] {
            ensure!(shown.contains(wanted), "{wanted}: {shown}");
        }
        Ok(())
    })
}

/// The older has what both want; what only one wants is that one's; and there is no gap when the older goes. (An API
/// server decides itself how old objects are.)
#[test]
fn two_services_share_an_external_address() -> Result<()> {
    test("shared", Needs::Files, |lab| {
        let scene = Scene::with(lab, Families::V4, 2, &AgentOptions::default())?;
        let ready = scene.web.ready();
        let mut objects = Vec::new();
        for (number, name) in ["old", "new"].into_iter().enumerate() {
            let alone = [scene.web.addresses_of(&ready[number])?[0]];
            let mut own = vec![Port::tcp("http", 80, 8080)];
            own.extend((name == "new").then(|| Port::tcp("alt", 443, 8443)));
            let cluster_ip = format!("10.96.0.4{number}").parse()?;
            let created = format!("2026-01-0{}T00:00:00Z", number + 1);
            let service = Service::new(name, &[cluster_ip], &own).created(&created);
            let mut service = service.json();
            service["spec"]["externalIPs"] = json!([OUTSIDE[0]]);
            let endpoints = alone.map(Endpoint::ready);
            let slices = Slice::by_family(name, &own, &endpoints);
            objects.push(service);
            objects.extend(slices.iter().map(Slice::json));
        }
        publish(&scene, &objects)?;
        let (http, alt) = (to(80)?, to(443)?);
        let client = scene.client.place();
        settle(&client, http, &ready[..1])?;
        settle(&client, alt, &ready[1..2])?;
        let status = scene.agent.cli(&["status"])?.stdout;
        let told = "Service default/new: spec.externalIPs: 198.51.100.7 port 80/TCP belongs to Service default/old";
        ensure!(status.contains(told), "{status}");
        let load = client.load(&Call::connect(http).rate(500))?;
        let of_old = |it: &Value| it.pointer("/metadata/name") == Some(&json!("old"));
        objects.retain(|it| !of_old(it));
        publish(&scene, &objects)?;
        settle(&client, http, &ready[1..2])?;
        ensure_clean(&load.stop()?)
    })
}

fn to(port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(OUTSIDE[0].parse()?, port))
}

/// A Pod of this node is reached at its host port, one of another node is not.
#[test]
fn host_ports_lead_to_their_pods() -> Result<()> {
    test("host-port", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 0, &AgentOptions::default())?;
        let mut servers = Vec::new();
        let mut objects = Vec::new();
        for node in [&scene.one, &scene.two] {
            let pod = node.pod(&format!("at-{}", node.name()))?;
            servers.push(pod.place().serve(pod.name(), &[8080])?);
            let mut pod = PodManifest::new(&pod, "at", &ports()).json();
            for port in [0, 1] {
                pod["spec"]["containers"][0]["ports"][port]["hostPort"] = json!(8088);
            }
            objects.push(pod);
        }
        publish(&scene, &objects)?;
        for address in scene.one.address().all() {
            let to = SocketAddr::new(address, 8088);
            ensure_served(&scene, to, &["at-one".to_owned()])?;
            // By packets: from a pod whose sockets nobody translates, and from another machine.
            for place in [scene.client.bare_place()?, scene.two.host()] {
                ensure_served_at(&place, to, &["at-one".to_owned()])?;
            }
        }
        for address in LOOPBACK {
            let to = SocketAddr::new(address, 8088);
            ensure_served_at(&scene.one.host(), to, &["at-one".to_owned()])?;
            settle(&scene.client.place(), to, &[])?;
        }
        for address in scene.two.address().all() {
            settle(&scene.client.place(), SocketAddr::new(address, 8088), &[])?;
        }
        Ok(())
    })
}

/// A Pod's manifest with this host port at these addresses. A container has a port once, so each address is another's.
fn at_host_port(pod: &Pod, addresses: impl IntoIterator<Item = IpAddr>) -> Value {
    let port = |address: IpAddr, protocol: &str| {
        let (port, host) = (8080, 8088);
        json!({"containerPort": port, "protocol": protocol, "hostPort": host, "hostIP": address})
    };
    let mut manifest = PodManifest::new(pod, pod.name(), &[]).json();
    let first = manifest["spec"]["containers"][0].clone();
    let container = |(number, address): (usize, IpAddr)| {
        let mut container = first.clone();
        container["name"] = json!(format!("server-{number}"));
        container["ports"] = json!(["TCP", "UDP"].map(|protocol| port(address, protocol)));
        container
    };
    let containers = addresses.into_iter().enumerate().map(container);
    manifest["spec"]["containers"] = json!(containers.collect::<Vec<_>>());
    manifest
}

/// Host processes reach what is on the host's loopback; in a pod the same address is the pod's own, and another Pod has
/// the same host port at the node's other addresses.
#[test]
fn host_ports_on_loopback_are_for_the_host() -> Result<()> {
    test("host-port-loopback", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 0, &AgentOptions::default())?;
        let (inner, outer) = (scene.one.pod("inner")?, scene.one.pod("outer")?);
        let _servers = [
            inner.place().serve("inner", &[8080])?,
            outer.place().serve("outer", &[8080])?,
        ];
        let objects = [
            at_host_port(&inner, LOOPBACK),
            at_host_port(&outer, scene.one.address().all()),
        ];
        publish(&scene, &objects)?;
        let (host, client) = (scene.one.host(), scene.client.place());
        for address in scene.one.address().all() {
            let to = SocketAddr::new(address, 8088);
            ensure_served(&scene, to, &["outer".to_owned()])?;
        }
        for address in LOOPBACK {
            let to = SocketAddr::new(address, 8088);
            ensure_served_at(&host, to, &["inner".to_owned()])?;
            settle(&client, to, &[])?;
        }
        let _own = client.serve_on("own", &LOOPBACK, &[8088])?;
        for address in LOOPBACK {
            let to = SocketAddr::new(address, 8088);
            ensure_served_at(&client, to, &["own".to_owned()])?;
            ensure_served_at(&host, to, &["inner".to_owned()])?;
        }
        Ok(())
    })
}

/// New connections to a node port go on while agents die and come back, and nothing is left of it afterwards.
#[test]
fn node_ports_outlive_the_agent() -> Result<()> {
    test("node-port-kill", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        let mut objects = front(&scene, "out", 30)?;
        with_node_ports(&mut objects[0]);
        publish(&scene, &objects)?;
        let mut loads = Vec::new();
        for address in scene.one.address().all() {
            let to = SocketAddr::new(address, NODE_PORT);
            settle(&scene.client.place(), to, &scene.web.ready())?;
            loads.push(scene.client.place().load(&Call::connect(to).rate(500))?);
        }
        let before = scene.agent.cli(&["bpf", "frontends"])?.ok()?.stdout;
        for _ in 0..3 {
            scene.agent.kill()?;
            scene.agent = scene.one.agent()?;
        }
        let after = scene.agent.cli(&["bpf", "frontends"])?.ok()?.stdout;
        ensure!(before == after, "{before}\n{after}");
        for load in loads {
            ensure_clean(&load.stop()?)?;
        }
        Ok(())
    })
}

/// Only who is in a range of its family reaches the load balancer's address; ClusterIP and external IP are for all.
#[test]
fn source_ranges_close_the_load_balancers_address() -> Result<()> {
    test("ranges", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        let stranger = scene.one.pod("stranger")?;
        let own = scene.client.address();
        let v4 = own.v4.map(|it| format!("{it}/32"));
        let v6 = own.v6.map(|it| format!("{it}/128"));
        let mut objects = front(&scene, "out", 30)?;
        objects[0]["spec"]["type"] = json!("LoadBalancer");
        objects[0]["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
        objects[0]["spec"]["externalIPs"] = json!(OUTSIDE);
        objects[0]["spec"]["loadBalancerSourceRanges"] = json!([v4, v6]);
        let ingress = BALANCED.map(|ip| json!({"ip": ip}));
        objects[0]["status"] = json!({"loadBalancer": {"ingress": ingress}});
        publish(&scene, &objects)?;
        for address in BALANCED {
            let to = SocketAddr::new(address.parse()?, 80);
            settle(&scene.client.place(), to, &scene.web.ready())?;
            let call = Call::connect(to).count(20).option("--timeout", 500);
            let report = stranger.place().call(&call)?;
            ensure!(report.answered == 0 && !report.is_clean(), "{report:?}");
        }
        for address in OUTSIDE {
            let to = SocketAddr::new(address.parse()?, 80);
            settle(&stranger.place(), to, &scene.web.ready())?;
        }
        // Ranges of one family alone leave the other open to all.
        objects[0]["spec"]["loadBalancerSourceRanges"] = json!([v4]);
        publish(&scene, &objects)?;
        let to = SocketAddr::new(BALANCED[1].parse()?, 80);
        settle(&stranger.place(), to, &scene.web.ready())?;
        let ranges = scene.agent.cli(&["bpf", "source-ranges"])?.ok()?.stdout;
        ensure!(ranges.contains(&v4.unwrap_or_default()), "{ranges}");
        Ok(())
    })
}
