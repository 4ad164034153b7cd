//! The API server is away, in each of the ways it can be: forwarding goes on as it was, the agent says how stale it is,
//! and when the server is back what came and what went meanwhile is made good.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    Agent, AgentOptions, Condition, Deployment, Everyday, Families, Fault, FaultProxy, Lab, Needs,
    Node, Pod, Scene, eventually, test,
};

/// An agent whose API server is behind the proxy; the test itself talks to the server directly.
struct World {
    scene: Scene,
    proxy: FaultProxy,
}

fn world(lab: &mut Lab) -> Result<World> {
    lab.use_control_plane()?;
    let control_plane = lab.control_plane().context("it was started")?;
    let proxy = FaultProxy::start(control_plane)?;
    let flags = [
        "--kubeconfig".to_owned(),
        proxy.kubeconfig().display().to_string(),
    ];
    let scene = Scene::with(lab, Families::Dual, 4, &AgentOptions::flags(&flags))?;
    for to in scene.all("http") {
        scene.settle(to)?;
    }
    Ok(World { scene, proxy })
}

fn writes(agent: &Agent) -> Result<f64> {
    let metrics = agent.metrics()?;
    let name = "mesh_agent_map_operations_total";
    Ok(["update", "delete", "store"]
        .iter()
        .map(|op| metrics.sum(name, &[("op", op)]))
        .sum())
}

fn stale(agent: &Agent) -> Result<f64> {
    Ok(agent.metrics()?.sum(
        "mesh_agent_source_stale_seconds",
        &[("kind", "EndpointSlice")],
    ))
}

/// One endpoint goes, one comes.
fn change(web: &mut Deployment, two: &Node, old: &str, new: &str) -> Result<Pod> {
    let pod = two.pod(new)?;
    web.set(old, Condition::Unready)?;
    web.add(&pod)?;
    Ok(pod)
}

fn away(title: &str, fault: Fault) -> Result<()> {
    test(title, Needs::ControlPlane, |lab| {
        let World { mut scene, proxy } = world(lab)?;
        let traffic = Everyday::start(&scene)?;
        let before = writes(&scene.agent)?;
        let ready = scene.web.ready();
        proxy.set(fault);
        change(&mut scene.web, &scene.two, "web-0", "web-late")?;
        scene.web.publish(&scene.source)?;
        eventually("the agent says that it is stale", || {
            let seconds = stale(&scene.agent)?;
            ensure!(seconds > 0.0, "{seconds}");
            let status = scene.agent.cli(&["status"])?;
            ensure!(status.stdout.contains("Stale"), "{}", status.stdout);
            Ok(())
        })?;
        ensure!(
            scene.agent.health("/readyz")?.status == 200,
            "it is not ready any more"
        );
        // What is in force is what was known.
        mesh_lab::settle(&scene.client.place(), scene.any()?, &ready)?;
        let meanwhile = writes(&scene.agent)?;
        ensure!(
            meanwhile <= before,
            "{} writes while it was away",
            meanwhile - before
        );
        proxy.set(Fault::None);
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        eventually("the agent is up to date", || {
            let seconds = stale(&scene.agent)?;
            ensure!(seconds < 1.0, "stale since {seconds} s");
            Ok(())
        })?;
        traffic.stop_clean().map(drop)
    })
}

#[test]
fn an_api_server_that_refuses_connections() -> Result<()> {
    away("refuse", Fault::Refuse)
}

#[test]
fn an_api_server_behind_a_black_hole() -> Result<()> {
    away("black-hole", Fault::BlackHole)
}

#[test]
fn an_api_server_that_fails_at_everything() -> Result<()> {
    away("errors", Fault::ServerErrors)
}

#[test]
fn an_api_server_behind_a_line_of_one_byte_a_second() -> Result<()> {
    away("slow", Fault::Slow)
}

/// Each second everything is listed anew: what did not change is not written.
#[test]
fn an_api_server_that_forgets_what_was_watched() -> Result<()> {
    test("gone", Needs::ControlPlane, |lab| {
        let World { mut scene, proxy } = world(lab)?;
        let traffic = Everyday::start(&scene)?;
        let before = writes(&scene.agent)?;
        let connections = proxy.connections();
        proxy.set(Fault::Gone);
        std::thread::sleep(Duration::from_secs(5));
        ensure!(proxy.connections() > connections, "nobody listed anew");
        let after = writes(&scene.agent)?;
        ensure!(after <= before, "{} writes for nothing", after - before);
        change(&mut scene.web, &scene.two, "web-0", "web-late")?;
        scene.publish()?;
        proxy.set(Fault::None);
        traffic.stop_clean().map(drop)
    })
}

/// What an earlier run left stays in force, untouched, until there is something to compare it with.
#[test]
fn an_agent_that_starts_without_its_api_server_touches_nothing() -> Result<()> {
    test("start", Needs::ControlPlane, |lab| {
        let World { mut scene, proxy } = world(lab)?;
        let traffic = Everyday::start(&scene)?;
        scene.agent.kill()?;
        proxy.set(Fault::Refuse);
        let flags = [
            "--kubeconfig".to_owned(),
            proxy.kubeconfig().display().to_string(),
        ];
        scene.agent = scene.one.start_agent(&AgentOptions::flags(&flags))?;
        eventually("the agent says what it waits for", || {
            let status = scene.agent.cli(&["status"])?;
            ensure!(status.stdout.contains("Waiting"), "{}", status.stdout);
            Ok(())
        })?;
        ensure!(writes(&scene.agent)? < 1.0, "it wrote something");
        ensure!(
            scene.agent.health("/readyz")?.status == 503,
            "it cannot be ready"
        );
        scene.settle(scene.any()?)?;
        change(&mut scene.web, &scene.two, "web-0", "web-late")?;
        scene.web.publish(&scene.source)?;
        proxy.set(Fault::None);
        scene.agent.wait_ready()?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        traffic.stop_clean().map(drop)
    })
}
