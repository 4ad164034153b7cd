//! Who a client is, is one answer for sockets and packets: it keeps its backend whichever way it comes, and is let in or
//! kept out by its address.

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::{Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Needs, Outside, Place, Pod, affinity_in_force, ensure_clean, eventually,
    lead, only, settle, test, traffic::Failure, values,
};
use serde_json::json;

/// What an agent has that may enter no namespace: clients are known by their connections alone.
const NO_SYS_ADMIN: [&str; 4] = ["bpf", "net_admin", "perfmon", "net_broadcast"];

/// The Service has affinity from now on, at both nodes.
fn sticky(outside: &mut Outside) -> Result<()> {
    const SECONDS: u32 = 10_800;
    let scene = &mut outside.scene;
    scene.web.set_affinity(SECONDS);
    scene.web.publish(&scene.source)?;
    for agent in [&scene.agent, &outside.far] {
        affinity_in_force(agent, SECONDS)?;
    }
    Ok(())
}

fn tcp(to: SocketAddr) -> Call {
    Call::connect(to).count(20)
}

fn udp(to: SocketAddr) -> Call {
    Call::connect(to).udp().count(20)
}

/// Waits until these pods' addresses are known at their sockets.
fn known(outside: &Outside, pods: &[Pod]) -> Result<()> {
    eventually("clients are known by their addresses", || {
        let clients = outside.scene.agent.json(&["bpf", "clients"])?;
        let shown = ["v4", "v6"].map(|family| values(&clients, family)).concat();
        let mut wanted = pods.iter().flat_map(|pod| pod.address().all());
        let missing = wanted.find(|it| !shown.contains(&&json!(it)));
        ensure!(missing.is_none(), "{missing:?} is not among {clients}");
        Ok(())
    })
}

#[test]
fn sockets_and_packets_are_of_one_client() -> Result<()> {
    test("packet-affinity", Needs::Agent, |lab| {
        let mut outside = Outside::settled(lab, 4)?;
        sticky(&mut outside)?;
        let names: Vec<String> = (0..8).map(|number| format!("client-{number}")).collect();
        let clients = outside.scene.one.pods(&names)?;
        known(&outside, &clients)?;
        let calls = outside.scene.all("http").into_iter().map(tcp);
        let calls: Vec<Call> = calls
            .chain(outside.scene.all("dns").into_iter().map(udp))
            .collect();
        for call in &calls {
            let mut chosen = BTreeSet::new();
            for (number, client) in clients.iter().enumerate() {
                let mut ways = [client.place(), client.bare_place()?];
                // Whichever way it comes first, the other way leads there too.
                if number % 2 == 0 {
                    ways.reverse();
                }
                let first = only(&ways[0], call)?;
                for way in [&ways[1], &ways[0]] {
                    let again = only(way, call)?;
                    ensure!(
                        first == again,
                        "{number}: {first} and then {again}: {call:?}"
                    );
                }
                chosen.insert(first);
            }
            // That eight clients agree on one of four by chance: 4^-7.
            ensure!(chosen.len() > 1, "all on {chosen:?}");
        }
        Ok(())
    })
}

#[test]
fn a_client_outside_keeps_its_backend() -> Result<()> {
    test("packet-sticky", Needs::Agent, |lab| {
        let mut outside = Outside::settled(lab, 4)?;
        sticky(&mut outside)?;
        let client = outside.client();
        for to in outside.node_ports(80) {
            for call in [tcp(to), udp(to)] {
                let first = only(&client, &call)?;
                let again = only(&client, &call)?;
                ensure!(first == again, "{first} and then {again}: {call:?}");
            }
        }
        Ok(())
    })
}

/// A load balancer's addresses, for some pods and some hosts outside.
fn restrict(outside: &mut Outside, allowed: &[String]) -> Result<()> {
    let scene = &mut outside.scene;
    scene.web.set_outside(&[], &Outside::BALANCED);
    scene
        .web
        .set_spec("loadBalancerSourceRanges", json!(allowed));
    scene.web.publish(&scene.source)
}

/// Nobody answers, and sockets are told at once.
fn ensure_denied(from: &Place, to: SocketAddr, failure: Failure) -> Result<()> {
    for call in [Call::connect(to), Call::connect(to).udp()] {
        let report = from.call(&call.count(5).option("--timeout", 200))?;
        ensure!(report.failed(failure) == 5, "{to}, {failure:?}: {report:?}");
    }
    Ok(())
}

#[test]
fn source_ranges_let_in_and_keep_out() -> Result<()> {
    test("packet-ranges", Needs::Agent, |lab| {
        let mut outside = Outside::settled(lab, 4)?;
        let node = &outside.scene.one;
        let (friend, stranger) = (node.pod("friend")?, node.pod("stranger")?);
        let enemy = lab.node("enemy", mesh_lab::Families::Dual)?;
        let addresses = friend.address().all().chain(outside.host.address().all());
        let allowed = addresses.map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }));
        restrict(&mut outside, &allowed.collect::<Vec<_>>())?;
        let scene = &outside.scene;
        for host in [&outside.host, &enemy] {
            for balanced in Outside::BALANCED {
                lead(host, balanced, &scene.one)?;
            }
        }
        let ready = scene.web.ready();
        for balanced in Outside::BALANCED {
            let to = SocketAddr::new(balanced, 80);
            for place in [friend.place(), friend.bare_place()?, outside.client()] {
                settle(&place, to, &ready)?;
                ensure_clean(&place.call(&udp(to))?)?;
            }
            ensure_denied(&stranger.place(), to, Failure::Refused)?;
            ensure_denied(&stranger.bare_place()?, to, Failure::Timeout)?;
            ensure_denied(&enemy.host(), to, Failure::Timeout)?;
        }
        // Ranges are the load balancer's alone.
        for to in outside.node_ports(80) {
            settle(&enemy.host(), to, &ready)?;
        }
        let drops = scene.agent.metrics()?;
        let drops = drops.sum(
            "mesh_agent_drops_total",
            &[("reason", "source_not_allowed")],
        );
        ensure!(drops >= 60.0, "{drops}");
        Ok(())
    })
}

/// How many clients are known by their connections alone.
fn learned(outside: &Outside) -> Result<usize> {
    let clients = outside.scene.agent.json(&["bpf", "clients"])?;
    let items = clients["items"].as_array().into_iter().flatten();
    Ok(items.filter(|it| it["learned"] == true).count())
}

/// Waits until the first node's connections are asked who their clients are, or no longer.
fn learning(outside: &Outside, wanted: bool) -> Result<()> {
    let link = outside.scene.one.bpffs().join("links/established");
    eventually("clients are learned while a Service asks for them", || {
        ensure!(link.exists() == wanted);
        Ok(())
    })
}

#[test]
fn connections_show_who_a_client_is() -> Result<()> {
    test("packet-learned", Needs::Agent, |lab| {
        let options = AgentOptions::capabilities(&NO_SYS_ADMIN);
        let mut outside = Outside::with(lab, 4, &options)?;
        outside.settle()?;
        learning(&outside, false)?;
        sticky(&mut outside)?;
        ensure!(learned(&outside)? == 0, "somebody is known already");
        learning(&outside, true)?;
        let names: Vec<String> = (0..8).map(|number| format!("client-{number}")).collect();
        let clients = outside.scene.one.pods(&names)?;
        for (number, client) in (1..).zip(&clients) {
            // The first connection is kept by the namespace, the others by the address that it showed.
            let (tcp_calls, udp_calls) = (outside.scene.all("http"), outside.scene.all("dns"));
            for to in &tcp_calls {
                let first = only(&client.place(), &tcp(*to))?;
                let again = only(&client.bare_place()?, &tcp(*to))?;
                ensure!(first == again, "{first} and then {again}: {to}");
            }
            for to in &udp_calls {
                let first = only(&client.place(), &udp(*to))?;
                let again = only(&client.bare_place()?, &udp(*to))?;
                ensure!(first == again, "{first} and then {again}: {to}");
            }
            eventually("the client is known", || {
                let learned = learned(&outside)?;
                ensure!(learned == number, "{learned}, not {number}");
                Ok(())
            })?;
        }
        outside.scene.source.remove("web.json")?;
        learning(&outside, false)?;
        eventually("what connections have shown is forgotten", || {
            let learned = learned(&outside)?;
            ensure!(learned == 0, "{learned}");
            Ok(())
        })
    })
}

#[test]
fn source_ranges_are_decided_at_the_socket_once_a_client_is_known() -> Result<()> {
    test("packet-learned-ranges", Needs::Agent, |lab| {
        let options = AgentOptions::capabilities(&NO_SYS_ADMIN);
        let mut outside = Outside::with(lab, 4, &options)?;
        outside.settle()?;
        let node = &outside.scene.one;
        let (friend, stranger) = (node.pod("friend")?, node.pod("stranger")?);
        let allowed = friend.address();
        let allowed = allowed.all();
        let allowed = allowed.map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }));
        restrict(&mut outside, &allowed.collect::<Vec<_>>())?;
        let scene = &outside.scene;
        let ready = scene.web.ready();
        // What is known of the stranger is known by family.
        for (balanced, known) in Outside::BALANCED.into_iter().zip(scene.all("http")) {
            let to = SocketAddr::new(balanced, 80);
            settle(&friend.place(), to, &ready)?;
            ensure_denied(&stranger.place(), to, Failure::Timeout)?;
            settle(&stranger.place(), known, &ready)?;
            ensure_denied(&stranger.place(), to, Failure::Refused)?;
            settle(&friend.place(), to, &ready)?;
        }
        Ok(())
    })
}
