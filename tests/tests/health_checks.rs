//! What load balancers learn at a Service's healthCheckNodePort.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use anyhow::{Result, ensure};
use mesh_lab::{AgentOptions, Condition, Families, Needs, Scene, eventually, test, values};
use serde_json::{Value, json};

const PORT: u16 = 32_100;

/// The Service is a load balancer's from now on, whose nodes answer for themselves.
fn balance(scene: &mut Scene) -> Result<()> {
    scene.web.set_spec("type", json!("LoadBalancer"));
    scene.web.set_spec("externalTrafficPolicy", json!("Local"));
    scene.web.set_spec("healthCheckNodePort", json!(PORT));
    scene.web.publish(&scene.source)
}

/// The node says that it has so many endpoints.
fn ensure_says(scene: &Scene, count: u64) -> Result<()> {
    eventually(&format!("the node has {count} endpoints"), || {
        let answer = scene.one.get(PORT, "/")?;
        let status = if count > 0 { 200 } else { 503 };
        ensure!(answer.status == status, "{answer:?}");
        let weight = answer.header("x-load-balancing-endpoint-weight");
        ensure!(weight == Some(count.to_string().as_str()), "{answer:?}");
        let body: Value = serde_json::from_str(&answer.body)?;
        let wanted = json!({
            "service": {"namespace": "default", "name": "web"},
            "localEndpoints": count,
            "serviceProxyHealthy": true,
        });
        ensure!(body == wanted, "{body}");
        Ok(())
    })
}

fn ensure_silent(scene: &Scene) -> Result<()> {
    eventually("nobody answers", || {
        ensure!(scene.one.get(PORT, "/").is_err(), "somebody does");
        Ok(())
    })
}

#[test]
fn a_node_answers_for_its_endpoints() -> Result<()> {
    test("health", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 4, &AgentOptions::default())?;
        ensure_silent(&scene)?;
        balance(&mut scene)?;
        ensure_says(&scene, 2)?;
        scene.web.set("web-0", Condition::Unready)?;
        scene.web.publish(&scene.source)?;
        ensure_says(&scene, 1)?;
        scene.web.set("web-2", Condition::Terminating)?;
        scene.web.publish(&scene.source)?;
        ensure_says(&scene, 0)?;
        scene.web.set("web-0", Condition::Ready)?;
        scene.web.publish(&scene.source)?;
        ensure_says(&scene, 1)?;
        // The next agent answers as soon as it is ready.
        scene.agent.terminate()?;
        ensure_silent(&scene)?;
        scene.agent = scene.one.agent()?;
        ensure_says(&scene, 1)?;
        scene
            .web
            .set_spec("externalTrafficPolicy", json!("Cluster"));
        scene.web.publish(&scene.source)?;
        ensure_silent(&scene)
    })
}

#[test]
fn a_port_in_use_is_told_and_tried_again() -> Result<()> {
    test("health-used", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        let bind = || {
            Ok(TcpListener::bind((
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                PORT,
            ))?)
        };
        let other = scene.one.host().within(bind)?;
        balance(&mut scene)?;
        eventually("status names it", || {
            let status = scene.agent.json(&["status"])?;
            let fields = values(&status, "field");
            let named = fields.iter().any(|it| *it == "spec.healthCheckNodePort");
            ensure!(named, "{status}");
            Ok(())
        })?;
        scene.settle(scene.any()?)?;
        drop(other);
        ensure_says(&scene, 1)?;
        eventually("it is forgotten", || {
            let status = scene.agent.json(&["status"])?;
            ensure!(values(&status, "field").is_empty(), "{status}");
            Ok(())
        })
    })
}

#[test]
fn it_answers_where_node_ports_are_served() -> Result<()> {
    test("health-at", Needs::Agent, |lab| {
        let flags = ["--nodeport-addresses", "172.31.0.0/16"];
        let options = AgentOptions::flags(&flags);
        let mut scene = Scene::with(lab, Families::Dual, 2, &options)?;
        balance(&mut scene)?;
        eventually("the node's address answers", || {
            let answer = scene.one.get_outside(true, PORT, "/")?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })?;
        ensure_silent(&scene)
    })
}
