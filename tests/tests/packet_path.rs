//! What passes no socket hook: pods in another cgroup root, and clients outside the cluster. Packets are translated at
//! the interfaces.

use std::{fs, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    Call, Endpoint, Families, Needs, Outside, Place, Port, Scene, Service, Slice, assert_uniform,
    ensure_clean, eventually, serves_everything, settle, test, traffic::Failure,
};
use serde_json::json;

/// The client's pod, but where no hook of the agent sees its sockets.
fn bare(scene: &Scene) -> Result<Place> {
    scene.client.bare_place()
}

#[test]
fn a_pod_of_another_cgroup_reaches_a_cluster_ip() -> Result<()> {
    test("packet-pod", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        let client = bare(&scene)?;
        for to in scene.all("http") {
            settle(&client, to, &scene.web.ready())?;
            let report = client.call(&Call::connect(to).count(1000))?;
            ensure_clean(&report)?;
            assert_uniform(&report.backends, &scene.web.ready())?;
            ensure_clean(&client.call(&Call::crr(to).count(200).expect("web-"))?)?;
            ensure_clean(&client.call(&Call::rr(to).count(200))?)?;
            let stream = Call::stream(to).option("--size", 65536);
            let stream = client.call(&stream.option("--duration", 0.5))?;
            ensure_clean(&stream)?;
            ensure!(stream.bytes > 0, "{stream:?}");
        }
        for to in scene.all("dns") {
            for call in [Call::connect(to).udp(), Call::connect(to).unconnected()] {
                let report = client.call(&call.count(200))?;
                ensure_clean(&report)?;
                ensure!(report.backends.len() == 4, "{report:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_trace_follows_the_packets_of_a_live_flow() -> Result<()> {
    test("packet-trace", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        for to in scene.all("http") {
            settle(&bare(&scene)?, to, &scene.web.ready())?;
            let held = bare(&scene)?.load(&Call::hold(to))?.holding()?;
            let flows = scene.agent.json(&["bpf", "flows"])?;
            let rows = flows["items"].as_array().context("no items")?;
            let wanted = to.to_string();
            let request = rows
                .iter()
                .filter(|row| row["entry"] == "request" && row["confirmed"] == true);
            let mut request = request.filter(|row| {
                row["destination"] == wanted && !row["seen"].to_string().contains("fin")
            });
            let request = request
                .next()
                .with_context(|| format!("no flow to {to}: {flows}"))?;
            let text = |field: &str| request[field].as_str().context("not in the row");
            let (client, backend) = (text("source")?, text("rewrittenTo")?);
            let trace = |hook, flags, from, to| {
                scene.agent.json(&[
                    "trace", "--packet", hook, "--flags", flags, "--from", from, "--to", to,
                ])
            };
            let known = trace("from-pod", "ack", client, &wanted)?;
            ensure!(known["target"] == backend, "{known} of {request}");
            let reply = trace("to-pod", "ack", backend, client)?;
            ensure!(reply["target"] == wanted.as_str(), "{reply} of {request}");
            // Nobody has spoken from that port.
            let stranger = SocketAddr::new(client.parse::<SocketAddr>()?.ip(), 1).to_string();
            let opened = trace("from-pod", "syn", &stranger, &wanted)?;
            ensure!(
                opened["verdict"] == "forward" && opened["target"] != wanted.as_str(),
                "{opened}"
            );
            let passed = trace("from-pod", "ack", &stranger, &wanted)?;
            ensure!(passed["verdict"] == "pass", "{passed}");
            held.stop()?;
        }
        Ok(())
    })
}

#[test]
fn what_nobody_serves_is_refused_at_once() -> Result<()> {
    test("packet-refused", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        let client = bare(&scene)?;
        for to in scene.all("http") {
            settle(&client, to, &scene.web.ready())?;
            let nobody = SocketAddr::new(to.ip(), 81);
            for call in [Call::connect(nobody), Call::connect(nobody).udp()] {
                let report = client.call(&call.count(20).option("--timeout", 2000))?;
                ensure!(report.failed(Failure::Refused) == 20, "{report:?}");
            }
        }
        let drops = scene.agent.metrics()?;
        let refused = drops.sum("mesh_agent_drops_total", &[("reason", "no_such_port")]);
        ensure!(refused >= 80.0, "{refused}");
        Ok(())
    })
}

#[test]
fn a_pod_reaches_itself_through_its_service() -> Result<()> {
    test("packet-hairpin", Needs::Agent, |lab| {
        let node = lab.node("one", Families::Dual)?;
        let pod = node.pod("self")?;
        let ports = [Port::tcp("http", 80, 8080), Port::udp("dns", 80, 8080)];
        let endpoints: Vec<Endpoint> = pod.address().all().map(Endpoint::ready).collect();
        let addresses = ["10.96.0.7".parse()?, "fd00:10:96::7".parse()?];
        let service = Service::new("self", &addresses, &ports);
        let mut objects = vec![service.json()];
        objects.extend(
            Slice::by_family("self", &ports, &endpoints)
                .iter()
                .map(Slice::json),
        );
        lab.source().write("self.json", &objects)?;
        let _server = pod.place().serve("self", &[8080])?;
        let _agent = node.agent()?;
        let client = pod.bare_place()?;
        for address in addresses {
            let to = SocketAddr::new(address, 80);
            settle(&client, to, &["self".to_owned()])?;
            ensure_clean(&client.call(&Call::rr(to).count(100))?)?;
            let datagrams = client.call(&Call::connect(to).udp().count(50))?;
            ensure!(datagrams.by("self") == 50, "{datagrams:?}");
        }
        Ok(())
    })
}

/// A node port of `web`, from a host that is no node of the cluster, at both nodes; backends on both.
#[test]
fn a_node_port_is_served_to_a_client_outside() -> Result<()> {
    test("packet-nodeport", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        let outside = lab.node("outside", Families::Dual)?;
        let _far = scene.two.agent()?;
        let mut objects = scene.web.objects();
        let spec = &mut objects[0]["spec"];
        spec["type"] = json!("NodePort");
        for (port, number) in [(0, 30_080), (1, 30_080), (2, 30_443)] {
            spec["ports"][port]["nodePort"] = json!(number);
        }
        scene.source.write("web.json", &objects)?;
        let client = outside.host();
        for node in [&scene.one, &scene.two] {
            for address in node.address().all() {
                let to = SocketAddr::new(address, 30_080);
                serves_everything(&client, to, &scene.web.ready())?;
            }
        }
        Ok(())
    })
}

/// External IPs and a load balancer's, by a node with an agent each, from a host that is no node.
#[test]
fn addresses_that_no_interface_has_are_served_to_a_client_outside() -> Result<()> {
    test("packet-external", Needs::Agent, |lab| {
        let mut outside = Outside::new(lab, 4)?;
        let all = || Outside::EXTERNAL.into_iter().chain(Outside::BALANCED);
        for node in [outside.scene.two.clone(), outside.scene.one.clone()] {
            outside.add_addresses(&node)?;
            for to in all() {
                let to = SocketAddr::new(to, 80);
                serves_everything(&outside.client(), to, &outside.scene.web.ready())?;
            }
        }
        // No node has them, so nobody answers there.
        let web = &mut outside.scene.web;
        web.set_outside(&[], &[]);
        web.publish(&outside.scene.source)?;
        for to in all() {
            eventually("the address is nobody's again", || {
                let call = Call::connect(SocketAddr::new(to, 80)).count(5);
                let report = outside.client().call(&call.option("--timeout", 200))?;
                ensure!(report.answered == 0, "{report:?}");
                Ok(())
            })?;
        }
        Ok(())
    })
}

/// A flood of datagrams to nobody is answered as often as the host would answer it by itself.
#[test]
fn port_unreachable_has_the_hosts_limit() -> Result<()> {
    test("packet-limit", Needs::Agent, |lab| {
        const BURST: u64 = 7;
        let mut scene = Scene::new(lab, Families::Dual)?;
        scene.agent.terminate()?;
        scene.one.host().within(|| {
            for (name, value) in [("icmp_msgs_per_sec", 1), ("icmp_msgs_burst", BURST)] {
                let path = format!("/proc/sys/net/ipv4/{name}");
                fs::write(&path, value.to_string()).context(path)?;
            }
            Ok(())
        })?;
        scene.agent = scene.one.agent()?;
        let client = bare(&scene)?;
        for to in scene.all("http") {
            settle(&client, to, &scene.web.ready())?;
            let nobody = SocketAddr::new(to.ip(), 81);
            let call = Call::connect(nobody).count(100);
            // One processor, so one budget.
            let pinned = client.on_cpu(0);
            let report = pinned.call(&call.clone().udp().option("--timeout", 20))?;
            let refused = report.failed(Failure::Refused);
            let earned = report.elapsed_ns / 1_000_000_000 + 1;
            ensure!(
                refused + report.failed(Failure::Timeout) == 100,
                "{report:?}"
            );
            ensure!((1..=BURST + earned).contains(&refused), "{report:?}");
            // Resets are no longer than what they answer.
            let report = client.call(&call.option("--timeout", 2000))?;
            ensure!(report.failed(Failure::Refused) == 100, "{report:?}");
        }
        let drops = scene.agent.metrics()?;
        let counted = drops.sum("mesh_agent_drops_total", &[("reason", "no_such_port")]);
        ensure!(counted >= 400.0, "{counted}");
        Ok(())
    })
}
