//! Which endpoints a client is led to, by traffic: policies Local inside and outside, their fallback to terminating
//! endpoints, and zones.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Condition, Families, Needs, Outside, Place, Scene, ensure_clean,
    eventually, settle, test, traffic::Failure,
};
use serde_json::{Value, json};

const CALLS: u64 = 20;

fn names(numbers: &[u8]) -> Vec<String> {
    numbers
        .iter()
        .map(|number| format!("web-{number}"))
        .collect()
}

/// Each way to call is led to these pods alone; to none, it is refused at once. Who sends datagrams without connecting is
/// told so at its socket alone: an ICMP error does not reach it.
fn ensure_led(place: &Place, tcp: SocketAddr, udp: SocketAddr, to: &[String]) -> Result<()> {
    settle(place, tcp, to)?;
    let connected = Call::connect(udp).udp();
    let mut calls = vec![Call::connect(tcp), connected];
    if !to.is_empty() {
        calls.push(Call::connect(udp).unconnected());
    }
    // Each frontend is replaced by itself, so one may be later than another.
    for call in calls {
        eventually(&format!("{call:?} is led to {to:?}"), || {
            let report = place.call(&call.clone().count(CALLS))?;
            if to.is_empty() {
                let refused = report.failed(Failure::Refused);
                ensure!(refused == CALLS, "{tcp}: {report:?}");
                return Ok(());
            }
            ensure_clean(&report)?;
            let mut names = report.backends.keys();
            ensure!(names.all(|name| to.contains(name)), "{tcp}: {report:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Whether who is led there from outside is seen by its own address.
fn is_seen(outside: &Outside, to: SocketAddr) -> Result<bool> {
    let mut own = outside.host.address().all();
    let own = own.find(|ip| ip.is_ipv4() == to.is_ipv4());
    let own = own.context("the host has an address of the family")?;
    let seen = outside.client().within(|| {
        let socket = UdpSocket::bind(SocketAddr::new(own, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.connect(to)?;
        socket.send(b"?")?;
        let mut answer = [0; 128];
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).trim().to_owned())
    })?;
    let seen: SocketAddr = seen.parse()?;
    Ok(seen.ip() == own)
}

fn counted(scene: &Scene, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
    Ok(scene.agent.metrics()?.sum(name, labels))
}

#[test]
fn the_internal_policy_keeps_clients_on_the_node() -> Result<()> {
    test("policy-in", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 4, &AgentOptions::default())?;
        scene.web.set_spec("internalTrafficPolicy", json!("Local"));
        scene.web.publish(&scene.source)?;
        let places = [
            scene.client.place(),
            scene.one.host(),
            scene.client.bare_place()?,
        ];
        let ways: Vec<_> = scene
            .all("http")
            .into_iter()
            .zip(scene.all("dns"))
            .collect();
        for place in &places {
            for (tcp, udp) in &ways {
                ensure_led(place, *tcp, *udp, &names(&[0, 2]))?;
            }
        }
        // Terminating ones of the node are better than none, whatever there is elsewhere.
        scene.web.set("web-0", Condition::Terminating)?;
        scene.web.set("web-2", Condition::Unready)?;
        scene.web.publish(&scene.source)?;
        for place in &places {
            for (tcp, udp) in &ways {
                ensure_led(place, *tcp, *udp, &names(&[0]))?;
            }
        }
        scene.web.set("web-0", Condition::Unready)?;
        scene.web.publish(&scene.source)?;
        for place in &places {
            for (tcp, udp) in &ways {
                ensure_led(place, *tcp, *udp, &[])?;
            }
        }
        let refused = [("result", "refused"), ("reason", "no_local_endpoints")];
        let name = "mesh_agent_socket_connections_total";
        ensure!(counted(&scene, name, &refused)? > 0.0, "at sockets");
        let dropped = [("reason", "no_local_endpoints")];
        let name = "mesh_agent_drops_total";
        ensure!(counted(&scene, name, &dropped)? > 0.0, "on the packet path");
        let lacking = [("traffic_policy", "internal"), ("ip_family", "IPv4")];
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        let lacking = counted(&scene, name, &lacking)?;
        ensure!((lacking - 3.0).abs() < 0.5, "{lacking} of three ports");
        // The others are still there for who is not bound to the node.
        scene
            .web
            .set_spec("internalTrafficPolicy", json!("Cluster"));
        scene.web.publish(&scene.source)?;
        for (tcp, udp) in &ways {
            ensure_led(&places[0], *tcp, *udp, &names(&[1, 3]))?;
        }
        Ok(())
    })
}

#[test]
fn the_external_policy_keeps_clients_outside_on_the_node() -> Result<()> {
    test("policy-out", Needs::Agent, |lab| {
        let mut outside = Outside::new(lab, 4)?;
        let spec = |outside: &mut Outside, policy: &str| {
            let scene = &mut outside.scene;
            scene.web.set_spec("externalTrafficPolicy", json!(policy));
            scene.web.publish(&scene.source)
        };
        spec(&mut outside, "Local")?;
        let client = outside.client();
        // Both nodes in both families, the first node's first.
        let ports = outside.node_ports(80);
        let (first, second) = ports.split_at(2);
        for to in first {
            ensure_led(&client, *to, *to, &names(&[0, 2]))?;
            // Inside it is as if the policy were Cluster.
            for place in [
                outside.scene.client.place(),
                outside.scene.one.host(),
                outside.inside()?,
            ] {
                ensure_led(&place, *to, *to, &names(&[0, 1, 2, 3]))?;
            }
        }
        for to in second {
            ensure_led(&client, *to, *to, &names(&[1, 3]))?;
            ensure!(
                is_seen(&outside, *to)?,
                "{to}: the client's address is hidden"
            );
        }
        // This node's are terminating: still theirs from outside, but nobody's from inside.
        outside.scene.web.set("web-0", Condition::Terminating)?;
        outside.scene.web.set("web-2", Condition::Unready)?;
        spec(&mut outside, "Local")?;
        for to in first {
            ensure_led(&client, *to, *to, &names(&[0]))?;
            ensure_led(&outside.scene.client.place(), *to, *to, &names(&[1, 3]))?;
        }
        outside.scene.web.set("web-0", Condition::Unready)?;
        spec(&mut outside, "Local")?;
        for to in first {
            ensure_led(&client, *to, *to, &[])?;
            ensure_led(&outside.scene.client.place(), *to, *to, &names(&[1, 3]))?;
        }
        for to in second {
            ensure_led(&client, *to, *to, &names(&[1, 3]))?;
        }
        spec(&mut outside, "Cluster")?;
        for to in first {
            ensure_led(&client, *to, *to, &names(&[1, 3]))?;
        }
        Ok(())
    })
}

#[test]
fn policies_outlive_the_agent() -> Result<()> {
    test("policy-kept", Needs::Agent, |lab| {
        let mut outside = Outside::new(lab, 4)?;
        let scene = &mut outside.scene;
        for field in ["internalTrafficPolicy", "externalTrafficPolicy"] {
            scene.web.set_spec(field, json!("Local"));
        }
        scene.web.publish(&scene.source)?;
        let own = names(&[0, 2]);
        let ports = outside.node_ports(80);
        for to in &ports[..2] {
            ensure_led(&outside.client(), *to, *to, &own)?;
        }
        let tables = |outside: &Outside| {
            let dump = |map: &str| outside.scene.agent.json(&["bpf", map]);
            anyhow::Ok([dump("frontends")?, dump("sets")?, dump("backends")?])
        };
        let before = tables(&outside)?;
        let load = outside.client().load(&Call::rr(ports[0]))?;
        outside.scene.agent.kill()?;
        // Nobody has to run for it.
        for to in &ports[..2] {
            settle(&outside.client(), *to, &own)?;
        }
        outside.scene.agent = outside.scene.one.agent()?;
        for to in outside.scene.all("http") {
            settle(&outside.scene.client.place(), to, &own)?;
        }
        let after = tables(&outside)?;
        ensure!(before == after, "{before:?} became {after:?}");
        ensure_clean(&load.stop()?)
    })
}

/// Endpoints are hinted for the zone, or for the node, that they are on.
fn hint(objects: &mut [Value], field: &str, names: &[(&str, &str)]) -> Result<()> {
    for slice in &mut objects[1..] {
        let endpoints = slice["endpoints"].as_array_mut().context("endpoints")?;
        for endpoint in endpoints {
            let node = endpoint["nodeName"].as_str().context("a node")?;
            let name = names.iter().find(|(known, _)| *known == node);
            let name = name.context("a node of the test")?.1;
            endpoint["hints"] = json!({field: [{"name": name}]});
        }
    }
    Ok(())
}

#[test]
fn clients_are_led_to_their_zone_and_to_their_node() -> Result<()> {
    test("zones", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 4, &AgentOptions::default())?;
        let in_zone = |zone: &str| {
            let node = json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "one", "labels": {"topology.kubernetes.io/zone": zone}},
            });
            scene.source.write("nodes.json", &[node])
        };
        in_zone("a")?;
        let zones = [("one", "a"), ("two", "b")];
        let mut objects = scene.web.objects();
        hint(&mut objects, "forZones", &zones)?;
        scene.source.write("web.json", &objects)?;
        let (client, bare) = (scene.client.place(), scene.client.bare_place()?);
        let ways: Vec<_> = scene
            .all("http")
            .into_iter()
            .zip(scene.all("dns"))
            .collect();
        let ensure_all = |to: &[u8]| {
            ways.iter().try_for_each(|(tcp, udp)| {
                ensure_led(&client, *tcp, *udp, &names(to))?;
                ensure_led(&bare, *tcp, *udp, &names(to))
            })
        };
        ensure_all(&[0, 2])?;
        in_zone("b")?;
        ensure_all(&[1, 3])?;
        // Nobody is hinted for this one.
        in_zone("c")?;
        ensure_all(&[0, 1, 2, 3])?;
        let explained = scene
            .agent
            .cli(&["service", "explain", "default/web"])?
            .ok()?;
        let said = "none is for this node or its zone";
        ensure!(explained.stdout.contains(said), "{}", explained.stdout);
        hint(&mut objects, "forNodes", &[("one", "one"), ("two", "two")])?;
        scene.source.write("web.json", &objects)?;
        ensure_all(&[0, 2])?;
        let explained = scene
            .agent
            .cli(&["service", "explain", "default/web"])?
            .ok()?;
        let said = "its hints are for other nodes";
        ensure!(explained.stdout.contains(said), "{}", explained.stdout);
        // Hints are about ready endpoints: the last resort is any that still serves.
        for number in 0..4 {
            scene
                .web
                .set(&format!("web-{number}"), Condition::Terminating)?;
        }
        let mut objects = scene.web.objects();
        hint(&mut objects, "forNodes", &[("one", "one"), ("two", "two")])?;
        scene.source.write("web.json", &objects)?;
        ensure_all(&[0, 1, 2, 3])
    })
}
