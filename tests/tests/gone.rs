//! Backends that go away: whoever is connected to one through a Service learns it at once, and nobody else is touched.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Condition, Deployment, Families, Load, Needs, Place, Scene, ensure_clean,
    eventually, test,
    traffic::{Failure, Percentiles, Report, monotonic},
    web_ports,
};
use serde_json::{Value, json};

/// How many sockets the agent says it destroyed.
fn destroyed(scene: &Scene, protocol: &str) -> Result<f64> {
    let metrics = scene.agent.metrics()?;
    let name = "mesh_agent_sockets_destroyed_total";
    ensure!(metrics.has(name, &[("protocol", protocol)]), "no {name}");
    Ok(metrics.sum(name, &[("protocol", protocol)]))
}

/// Waits until the agent has destroyed so many sockets.
fn all_destroyed(scene: &Scene, protocol: &str, expected: u32) -> Result<()> {
    eventually(
        &format!("{expected} {protocol} sockets are destroyed"),
        || {
            let count = destroyed(scene, protocol)?;
            ensure!(count >= f64::from(expected), "{count}");
            Ok(())
        },
    )
}

/// Connections to `web`, TCP, of both families and by sockets that speak both.
fn lose_everywhere(scene: &Scene, place: &Place, connections: usize) -> Result<Vec<Load>> {
    let mut calls: Vec<Call> = scene
        .all("http")
        .into_iter()
        .map(|to| Call::lose(to, connections))
        .collect();
    calls.push(Call::lose(scene.web.v4("http")?, connections).mapped());
    let loads = calls.iter().map(|call| place.load(call)?.holding());
    loads.collect()
}

fn all_lost(report: &Report, connections: u64) -> Result<()> {
    ensure!(
        report.failed(Failure::Reset) == connections && report.attempts == connections,
        "{report:?}"
    );
    Ok(())
}

/// Publishes that a pod is gone; nanoseconds of the moment before. Slices that have lost their last endpoint stay, as the
/// control plane leaves them.
fn remove(scene: &mut Scene, pod: &str) -> Result<u64> {
    let mut emptied = scene.web.objects();
    scene.web.set(pod, Condition::Gone)?;
    let mut objects = scene.web.objects();
    emptied.retain(|old| {
        let same = |new: &Value| new["metadata"]["name"] == old["metadata"]["name"];
        old["kind"] == "EndpointSlice" && !objects.iter().any(same)
    });
    for mut slice in emptied {
        slice["endpoints"] = json!([]);
        objects.push(slice);
    }
    let before = monotonic()?;
    scene.source.write("web.json", &objects)?;
    Ok(u64::try_from(before.as_nanos())?)
}

fn show(what: &str, before: u64, report: &Report) -> Result<()> {
    let samples = report.samples_ns.iter().map(|at| at.saturating_sub(before));
    let mut samples: Vec<u64> = samples.collect();
    if let Some(found) = Percentiles::of(&mut samples) {
        use std::io::Write;
        writeln!(
            std::io::stderr(),
            "{what}: {} learnt it, median {} us, 99 of 100 {} us, longest {} us",
            found.count,
            found.p50 / 1000,
            found.p99 / 1000,
            found.max / 1000
        )?;
    }
    Ok(())
}

#[test]
fn everybody_connected_to_a_removed_backend_learns_it() -> Result<()> {
    test("gone-tcp", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 1, &AgentOptions::default())?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let connections = 100;
        let mut loads = lose_everywhere(&scene, &scene.client.place(), connections)?;
        loads.extend(lose_everywhere(&scene, &scene.one.host(), connections)?);
        ensure!(destroyed(&scene, "tcp")? == 0.0, "nothing is gone yet");
        let before = remove(&mut scene, "web-0")?;
        all_destroyed(&scene, "tcp", 600)?;
        for (number, load) in loads.into_iter().enumerate() {
            let report = load.stop()?;
            show(&format!("TCP clients {number}"), before, &report)?;
            all_lost(&report, 100)?;
        }
        let status = scene.agent.json(&["status"])?;
        ensure!(status["socketsDestroyed"] == 600, "{status}");
        Ok(())
    })
}

/// Connections that are made while their backend goes: none of them stays.
#[test]
fn nobody_slips_through() -> Result<()> {
    test("gone-race", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::V4, 1, &AgentOptions::default())?;
        scene.settle(scene.any()?)?;
        for round in 0..3 {
            let to = scene.web.v4("http")?;
            let call = Call::lose(to, 500).option("--parallel", 4);
            let loads: Result<Vec<Load>> =
                (0..2).map(|_| scene.client.place().load(&call)).collect();
            std::thread::sleep(std::time::Duration::from_millis(20 * round));
            remove(&mut scene, "web-0")?;
            scene.forgotten("web-0")?;
            std::thread::sleep(std::time::Duration::from_millis(2500));
            for load in loads? {
                let report = load.stop()?;
                let (told, refused) = (
                    report.failed(Failure::Reset),
                    report.failed(Failure::Refused),
                );
                ensure!(told + refused == report.attempts, "{report:?}");
            }
            scene.web.set("web-0", Condition::Ready)?;
            scene.publish()?;
        }
        Ok(())
    })
}

/// A Service with one endpoint, which is nobody.
fn nobody(host: u32) -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "nobody", "namespace": "shop"},
               "spec": {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
               "metadata": {"name": "nobody-1", "namespace": "shop",
                            "labels": {"kubernetes.io/service-name": "nobody"}},
               "ports": [{"port": 8080}], "endpoints": [{"addresses": [format!("10.9.9.{host}")]}]}),
    ]
}

/// The cost of a change is a count: where nobody is connected to who is gone, no socket is looked for.
#[test]
fn only_namespaces_that_lost_a_backend_are_searched() -> Result<()> {
    test("gone-search", Needs::Files, |lab| {
        let mut scene = Scene::with(lab, Families::V4, 1, &AgentOptions::default())?;
        scene.settle(scene.any()?)?;
        let call = Call::lose(scene.web.v4("http")?, 10);
        let load = scene.client.place().load(&call)?.holding()?;
        let metric = |scene: &Scene, name| anyhow::Ok(scene.agent.metrics()?.sum(name, &[]));
        let written = "mesh_agent_programming_duration_seconds_count";
        for host in 1..=20 {
            let before = metric(&scene, written)?;
            scene.source.write("nobody.json", &nobody(host))?;
            eventually("the change is written", || {
                ensure!(metric(&scene, written)? > before, "it is not");
                Ok(())
            })?;
        }
        // Long enough for a second look.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let searched = "mesh_agent_namespaces_searched_total";
        ensure!(scene.agent.metrics()?.has(searched, &[]), "no {searched}");
        ensure!(
            metric(&scene, searched)? == 0.0,
            "nobody was connected to them"
        );
        remove(&mut scene, "web-0")?;
        all_destroyed(&scene, "tcp", 10)?;
        std::thread::sleep(std::time::Duration::from_millis(1500));
        all_lost(&load.stop()?, 10)?;
        // The client's, at the first look and at the second one at most.
        let count = metric(&scene, searched)?;
        ensure!((1.0..=2.0).contains(&count), "{count}");
        Ok(())
    })
}

#[test]
fn a_connected_udp_socket_is_told_once() -> Result<()> {
    test("gone-udp", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 1, &AgentOptions::default())?;
        let mut loads = Vec::new();
        for (tcp, udp) in scene.all("http").into_iter().zip(scene.all("dns")) {
            scene.settle(tcp)?;
            let call = Call::lose(udp, 20).udp();
            loads.push(scene.client.place().load(&call)?.holding()?);
            loads.push(scene.one.host().load(&call)?.holding()?);
        }
        let before = remove(&mut scene, "web-0")?;
        all_destroyed(&scene, "udp", 80)?;
        // Long enough for a second look.
        std::thread::sleep(std::time::Duration::from_secs(2));
        for (number, load) in loads.into_iter().enumerate() {
            let report = load.stop()?;
            show(&format!("UDP clients {number}"), before, &report)?;
            all_lost(&report, 20)?;
        }
        Ok(())
    })
}

#[test]
fn unconnected_udp_sockets_choose_anew() -> Result<()> {
    test("gone-sendto", Needs::Agent, |lab| {
        let mut scene = Scene::new(lab, Families::V4)?;
        scene.settle(scene.any()?)?;
        let call = Call::hold(scene.web.v4("dns")?).unconnected();
        let call = call.option("--connections", 20).flag("--may-move");
        let load = scene.client.place().load(&call)?.holding()?;
        remove(&mut scene, "web-0")?;
        scene.forgotten("web-0")?;
        scene.settle(scene.any()?)?;
        ensure_clean(&load.stop()?)?;
        ensure!(destroyed(&scene, "udp")? == 0.0, "nobody was connected");
        Ok(())
    })
}

/// Held connections to `web`, each of which is asked now and then: TCP and UDP of a pod and of the host.
fn hold_everywhere(scene: &Scene) -> Result<Vec<Load>> {
    let mut loads = Vec::new();
    for (tcp, udp) in scene.all("http").into_iter().zip(scene.all("dns")) {
        for call in [Call::hold(tcp), Call::hold(udp).udp()] {
            let call = call.option("--connections", 10);
            for place in [scene.client.place(), scene.one.host()] {
                loads.push(place.load(&call)?.holding()?);
            }
        }
    }
    Ok(loads)
}

#[test]
fn who_is_not_gone_keeps_every_connection() -> Result<()> {
    test("gone-not", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 1, &AgentOptions::default())?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let loads = hold_everywhere(&scene)?;
        for condition in [Condition::Unready, Condition::Terminating] {
            scene.web.set("web-0", condition)?;
            scene.web.publish(&scene.source)?;
            scene.settle(scene.any()?).ok();
        }
        // Deselected by `web`, and still an endpoint of another Service.
        let mut other = Deployment::new("other", &["10.96.0.11", "fd00:10:96::11"], &web_ports())?;
        other.share(scene.web.pod("web-0")?);
        other.publish(&scene.source)?;
        scene.web.set("web-0", Condition::Gone)?;
        scene.publish()?;
        std::thread::sleep(std::time::Duration::from_millis(1500));
        for protocol in ["tcp", "udp"] {
            ensure!(destroyed(&scene, protocol)? == 0.0, "{protocol}");
        }
        for load in loads {
            ensure_clean(&load.stop()?)?;
        }
        let loads = lose_other(&scene)?;
        other.set("web-0", Condition::Gone)?;
        other.publish(&scene.source)?;
        all_destroyed(&scene, "tcp", 10)?;
        all_lost(&loads.stop()?, 10)
    })
}

fn lose_other(scene: &Scene) -> Result<Load> {
    let to: SocketAddr = "10.96.0.11:80".parse()?;
    mesh_lab::settle(&scene.client.place(), to, &["web-0".to_owned()])?;
    scene.client.place().load(&Call::lose(to, 10))?.holding()
}

#[test]
fn nobody_who_came_directly_is_touched() -> Result<()> {
    test("gone-direct", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 1, &AgentOptions::default())?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let mut direct = Vec::new();
        for address in scene.web.addresses_of("web-0")? {
            let to = SocketAddr::new(address, 8080);
            for call in [Call::hold(to), Call::hold(to).udp()] {
                let call = call.option("--connections", 10);
                for place in [scene.client.place(), scene.one.host()] {
                    direct.push(place.load(&call)?.holding()?);
                }
            }
        }
        let loads = lose_everywhere(&scene, &scene.client.place(), 10)?;
        remove(&mut scene, "web-0")?;
        all_destroyed(&scene, "tcp", 30)?;
        for load in loads {
            all_lost(&load.stop()?, 10)?;
        }
        std::thread::sleep(std::time::Duration::from_millis(1500));
        for load in direct {
            ensure_clean(&load.stop()?)?;
        }
        ensure!(destroyed(&scene, "tcp")? == 30.0, "others were destroyed");
        ensure!(destroyed(&scene, "udp")? == 0.0, "others were destroyed");
        Ok(())
    })
}

#[test]
fn never_is_never() -> Result<()> {
    test("gone-never", Needs::Agent, |lab| {
        let options = AgentOptions::flags(&["--terminate-connections", "never"]);
        let mut scene = Scene::with(lab, Families::Dual, 1, &options)?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let loads = hold_everywhere(&scene)?;
        remove(&mut scene, "web-0")?;
        scene.forgotten("web-0")?;
        std::thread::sleep(std::time::Duration::from_millis(1500));
        for load in loads {
            ensure_clean(&load.stop()?)?;
        }
        ensure!(destroyed(&scene, "tcp")? == 0.0, "it was told not to");
        Ok(())
    })
}

#[test]
fn who_left_while_the_agent_was_away_is_found_at_its_start() -> Result<()> {
    test("gone-restart", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let loads = lose_everywhere(&scene, &scene.client.place(), 40)?;
        let udp = Call::lose(scene.web.v4("dns")?, 40).udp();
        let udp = scene.client.place().load(&udp)?.holding()?;
        scene.agent.kill()?;
        remove(&mut scene, "web-0")?;
        scene.agent = scene.one.agent_with(&AgentOptions::default())?;
        // A fair choice gives each of two backends fewer than 1 of 40 once in 10^11 times.
        all_destroyed(&scene, "udp", 1)?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        let mut lost = 0;
        for load in loads {
            let report = load.stop()?;
            let count = report.failed(Failure::Reset);
            ensure!((1..40).contains(&count), "{report:?}");
            lost += count;
        }
        let udp = udp.stop()?;
        ensure!(destroyed(&scene, "tcp")? == f64::from(u32::try_from(lost)?));
        ensure!((1..40).contains(&udp.failed(Failure::Reset)), "{udp:?}");
        Ok(())
    })
}

/// What an agent has not read since it began may name whoever seems to be gone.
#[test]
fn nobody_is_gone_while_something_cannot_be_read() -> Result<()> {
    test("gone-unread", Needs::Files, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 1, &AgentOptions::default())?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let held = hold_everywhere(&scene)?;
        let loads = lose_everywhere(&scene, &scene.client.place(), 10)?;
        scene.agent.kill()?;
        scene.source.write_raw("web.json", b"{")?;
        scene.agent = scene.one.agent_with(&AgentOptions::default())?;
        std::thread::sleep(std::time::Duration::from_millis(1500));
        ensure!(destroyed(&scene, "tcp")? == 0.0, "nobody knows");
        for load in held {
            ensure_clean(&load.stop()?)?;
        }
        remove(&mut scene, "web-0")?;
        all_destroyed(&scene, "tcp", 30)?;
        for load in loads {
            all_lost(&load.stop()?, 10)?;
        }
        Ok(())
    })
}

#[test]
fn an_address_that_comes_back_is_somebody_else() -> Result<()> {
    test("gone-back", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 1, &AgentOptions::default())?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let old = lose_everywhere(&scene, &scene.client.place(), 10)?;
        remove(&mut scene, "web-0")?;
        scene.forgotten("web-0")?;
        scene.web.set("web-0", Condition::Ready)?;
        scene.publish()?;
        let young = hold_everywhere(&scene)?;
        all_destroyed(&scene, "tcp", 30)?;
        std::thread::sleep(std::time::Duration::from_millis(1500));
        for load in old {
            all_lost(&load.stop()?, 10)?;
        }
        for load in young {
            ensure_clean(&load.stop()?)?;
        }
        ensure!(destroyed(&scene, "tcp")? == 30.0, "the new ones stay");
        Ok(())
    })
}

/// Publishes `web` with the uid of its Pods' objects.
fn publish_as(scene: &Scene, uid: &str) -> Result<()> {
    let mut objects = scene.web.objects();
    for object in &mut objects {
        let endpoints = object.get_mut("endpoints").and_then(Value::as_array_mut);
        for endpoint in endpoints.into_iter().flatten() {
            endpoint["targetRef"] = json!({"kind": "Pod", "name": uid, "uid": uid});
        }
    }
    scene.source.write("web.json", &objects)
}

#[test]
fn another_pod_with_the_same_address_has_no_old_connections() -> Result<()> {
    test("gone-uid", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 1, &AgentOptions::default())?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        // Whose they were before is not known: they may stay.
        publish_as(&scene, "web-0-old")?;
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let old = lose_everywhere(&scene, &scene.client.place(), 10)?;
        publish_as(&scene, "web-0-young")?;
        all_destroyed(&scene, "tcp", 30)?;
        let young = hold_everywhere(&scene)?;
        for load in old {
            all_lost(&load.stop()?, 10)?;
        }
        std::thread::sleep(std::time::Duration::from_millis(1500));
        for load in young {
            ensure_clean(&load.stop()?)?;
        }
        Ok(())
    })
}

#[test]
fn without_sys_admin_the_host_is_served() -> Result<()> {
    test("gone-caps", Needs::Agent, |lab| {
        let some = ["bpf", "net_admin", "perfmon", "net_broadcast"];
        let options = AgentOptions::capabilities(&some);
        let mut scene = Scene::with(lab, Families::Dual, 1, &options)?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let host = lose_everywhere(&scene, &scene.one.host(), 10)?;
        let pod = lose_everywhere(&scene, &scene.client.place(), 10)?;
        remove(&mut scene, "web-0")?;
        all_destroyed(&scene, "tcp", 30)?;
        for load in host {
            all_lost(&load.stop()?, 10)?;
        }
        for load in pod {
            ensure!(load.stop()?.errors.is_empty(), "nobody could enter");
        }
        let said = scene.agent.said();
        ensure!(said.contains("takes CAP_SYS_ADMIN"), "{said}");
        Ok(())
    })
}
