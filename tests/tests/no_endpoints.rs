//! Refusals: a Service without endpoints, a port that a ClusterIP lacks, and what unready endpoints keep.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Condition, Families, Needs, Scene, ensure_clean, eventually, test,
    traffic::Failure,
};

const CALLS: u64 = 10;

/// Every way to call is refused, at once and each time.
fn ensure_refused(scene: &Scene, tcp: SocketAddr, udp: SocketAddr) -> Result<()> {
    for place in [scene.client.place(), scene.one.host()] {
        for call in [
            Call::connect(tcp),
            Call::connect(udp).udp(),
            Call::connect(udp).unconnected(),
        ] {
            let report = place.call(&call.count(CALLS))?;
            ensure!(
                report.failed(Failure::Refused) == CALLS,
                "{tcp}: {report:?}"
            );
        }
    }
    Ok(())
}

fn refusals(scene: &Scene, reason: &str) -> Result<f64> {
    let labels = [("result", "refused"), ("reason", reason)];
    let metrics = scene.agent.metrics()?;
    let name = "mesh_agent_socket_connections_total";
    ensure!(metrics.has(name, &labels), "no series {name} for {reason}");
    Ok(metrics.sum(name, &labels))
}

#[test]
fn a_service_without_endpoints_refuses() -> Result<()> {
    test("none", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 0, &AgentOptions::default())?;
        scene.settle(scene.any()?)?;
        let before = refusals(&scene, "no_endpoints")?;
        for (tcp, udp) in scene.all("http").into_iter().zip(scene.all("dns")) {
            ensure_refused(&scene, tcp, udp)?;
        }
        // Two families, two places, three ways.
        let counted = refusals(&scene, "no_endpoints")? - before;
        ensure!(
            (counted - 12.0 * CALLS as f64).abs() < 0.5,
            "{counted} were counted"
        );
        scene.web.add(&scene.two.pod("late")?)?;
        scene.publish()?;
        scene.web.set("late", Condition::Unready)?;
        scene.publish()?;
        ensure_refused(&scene, scene.web.v4("http")?, scene.web.v4("dns")?)
    })
}

#[test]
fn a_port_that_the_address_lacks_refuses() -> Result<()> {
    test("no-port", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 1, &AgentOptions::default())?;
        scene.settle(scene.any()?)?;
        let before = refusals(&scene, "no_such_port")?;
        for to in scene.all("http") {
            let undefined = SocketAddr::new(to.ip(), 8080);
            ensure_refused(&scene, undefined, undefined)?;
        }
        let counted = refusals(&scene, "no_such_port")? - before;
        ensure!(
            (counted - 12.0 * CALLS as f64).abs() < 0.5,
            "{counted} were counted"
        );
        // TCP 443 is a port of the Service, UDP 443 is none.
        let to = scene.web.v4("alt")?;
        let report = scene
            .client
            .place()
            .call(&Call::connect(to).udp().count(CALLS))?;
        ensure!(report.failed(Failure::Refused) == CALLS, "{report:?}");
        Ok(())
    })
}

#[test]
fn unready_and_terminating_endpoints_keep_what_they_have() -> Result<()> {
    test("keep", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 3, &AgentOptions::default())?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let mut held = Vec::new();
        for (tcp, udp) in scene.all("http").into_iter().zip(scene.all("dns")) {
            for call in [
                Call::hold(tcp),
                Call::hold(udp).udp(),
                Call::hold(udp).unconnected(),
            ] {
                let call = call.option("--connections", 100);
                held.push(scene.client.place().load(&call)?.holding()?);
            }
        }
        scene.web.set("web-0", Condition::Unready)?;
        scene.publish()?;
        scene.web.set("web-1", Condition::Terminating)?;
        scene.publish()?;
        for load in held {
            let report = load.stop()?;
            ensure_clean(&report)?;
            ensure!(
                report.backends.len() == 3,
                "all three kept theirs: {report:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn terminating_endpoints_serve_while_there_are_no_others() -> Result<()> {
    test("fallback", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::V4, 2, &AgentOptions::default())?;
        let to = scene.any()?;
        scene.settle(to)?;
        for pod in ["web-0", "web-1"] {
            scene.web.set(pod, Condition::Terminating)?;
        }
        scene.web.publish(&scene.source)?;
        eventually("both are terminating", || {
            let view = scene
                .agent
                .cli(&["service", "explain", "default/web"])?
                .ok()?;
            ensure!(view.stdout.contains("terminating"), "{}", view.stdout);
            Ok(())
        })?;
        let names = ["web-0".to_owned(), "web-1".to_owned()];
        mesh_lab::settle(&scene.client.place(), to, &names)?;
        // One that is ready is preferred to both.
        scene.web.set("web-1", Condition::Ready)?;
        scene.publish()
    })
}
