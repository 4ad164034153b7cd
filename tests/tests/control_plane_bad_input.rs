//! Objects that the API server takes and that mean nothing, or too much: what is wrong is named in log, status and
//! metric with object, field, reason and fix, and everything else goes on.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Client, Endpoint, Families, Lab, Needs, Port, Scene, Service, Slice,
    ensure_clean, eventually, test, traffic::Failure,
};
use serde_json::{Value, json};

fn world(lab: &mut Lab) -> Result<(Scene, Client)> {
    lab.use_control_plane()?;
    let client = lab.control_plane().context("it was started")?.client()?;
    let scene = Scene::with(lab, Families::V4, 2, &AgentOptions::default())?;
    scene.settle(scene.any()?)?;
    Ok((scene, client))
}

fn problems(scene: &Scene) -> Result<f64> {
    let metrics = scene.agent.metrics()?;
    Ok(metrics.sum("mesh_agent_source_problems", &[]))
}

/// Log, status and metric name it with all of these words; the rest goes on. When it is gone nobody speaks of it.
fn ensure_named(scene: &Scene, client: &Client, object: &Value, words: &[&str]) -> Result<()> {
    client.apply(object)?;
    eventually(&format!("{words:?} are named"), || {
        ensure!(problems(scene)? > 0.5, "no problem is counted");
        let status = scene.agent.json(&["status"])?.to_string();
        let log = scene.agent.said();
        let line = |line: &str| words.iter().all(|word| line.contains(word));
        ensure!(log.lines().any(line), "no line with all of them:\n{log}");
        ensure!(words.iter().all(|word| status.contains(word)), "{status}");
        Ok(())
    })?;
    scene.settle(scene.any()?)?;
    client.delete(object)?;
    eventually("it is forgotten", || {
        let count = problems(scene)?;
        ensure!(count < 0.5, "{count} problems");
        Ok(())
    })
}

fn service(name: &str, address: &str, ports: &[Port]) -> Result<Service> {
    Ok(Service::new(name, &[address.parse()?], ports))
}

fn http() -> Vec<Port> {
    vec![Port::tcp("http", 80, 8080)]
}

#[test]
fn a_slice_of_names_is_named() -> Result<()> {
    test("names", Needs::ControlPlane, |lab| {
        let (scene, client) = world(lab)?;
        let names = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "web-names", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "web"},
            },
            "addressType": "FQDN", "endpoints": [{"addresses": ["web.example.com"]}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        });
        let words = [
            "EndpointSlice default/web-names",
            "addressType",
            "use IPv4 or IPv6",
        ];
        ensure_named(&scene, &client, &names, &words)
    })
}

#[test]
fn a_protocol_that_is_not_served_is_named() -> Result<()> {
    test("sctp", Needs::ControlPlane, |lab| {
        let (scene, client) = world(lab)?;
        let mut object = service("sctp", "10.96.9.1", &http())?.json();
        object["spec"]["ports"][0]["protocol"] = json!("SCTP");
        let words = [
            "Service default/sctp",
            "spec.ports[0].protocol",
            "use TCP or UDP",
        ];
        ensure_named(&scene, &client, &object, &words)
    })
}

/// Two slices say different things of one endpoint: that it is ready counts, and that they differ is said.
#[test]
fn slices_that_contradict_each_other_are_named() -> Result<()> {
    test("contradiction", Needs::ControlPlane, |lab| {
        let (scene, client) = world(lab)?;
        let address = scene.web.addresses_of("web-0")?[0];
        let unready = Endpoint {
            ready: false,
            serving: false,
            ..Endpoint::ready(address)
        };
        let slice = Slice::new("web-other", "web", &mesh_lab::web_ports(), &[unready]).json();
        let address = address.to_string();
        let words = ["EndpointSlice default/web-", "conditions", &address];
        ensure_named(&scene, &client, &slice, &words)
    })
}

#[test]
fn a_thousand_ports_are_served() -> Result<()> {
    test("ports", Needs::ControlPlane, |lab| {
        let (scene, client) = world(lab)?;
        let before = problems(&scene)?;
        let ports: Vec<Port> = (1..=1000)
            .map(|port| Port::tcp(&format!("p{port}"), port, 8080))
            .collect();
        let slice = Slice::new("many-1", "many", &ports[..100], &endpoints(&scene)?);
        client.apply(&service("many", "10.96.9.2", &ports)?.json())?;
        client.apply(&slice.json())?;
        for port in [1, 50, 100] {
            let to = SocketAddr::new("10.96.9.2".parse()?, port);
            mesh_lab::settle(&scene.client.place(), to, &scene.web.ready())?;
        }
        // The API takes no more than 100 ports in a slice: the others have no endpoint.
        refused(&scene, SocketAddr::new("10.96.9.2".parse()?, 1000))?;
        ensure!(problems(&scene)? <= before, "it is no problem");
        scene.settle(scene.any()?)
    })
}

fn endpoints(scene: &Scene) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for pod in scene.web.ready() {
        let addresses = scene.web.addresses_of(&pod)?;
        endpoints.extend(addresses.into_iter().map(Endpoint::ready));
    }
    Ok(endpoints)
}

/// Every connection is refused at once, for the reason that there is no endpoint.
fn refused(scene: &Scene, to: SocketAddr) -> Result<()> {
    eventually(&format!("{to} is refused"), || {
        let count = || -> Result<f64> {
            let metrics = scene.agent.metrics()?;
            Ok(metrics.sum("mesh_agent_drops_total", &[("reason", "no_endpoints")]))
        };
        let before = count()?;
        let report = scene.client.place().call(&Call::connect(to).count(10))?;
        ensure!(report.failed(Failure::Refused) == 10, "{report:?}");
        let counted = count()? - before;
        ensure!((counted - 10.0).abs() < 0.5, "{counted} are counted");
        Ok(())
    })
}

#[test]
fn a_selector_that_nothing_matches_refuses_and_is_named() -> Result<()> {
    test("selector", Needs::ControlPlane, |lab| {
        let (scene, client) = world(lab)?;
        let nobody = service("nobody", "10.96.9.3", &http())?.selector("nobody");
        client.apply(&nobody.json())?;
        refused(&scene, "10.96.9.3:80".parse()?)?;
        let words = [
            "Service default/nobody",
            "spec.selector",
            "matches no Pod",
            "labels",
        ];
        ensure_named(&scene, &client, &nobody.json(), &words)
    })
}

/// An address that is nobody's is called in vain, and nothing else suffers.
#[test]
fn an_endpoint_outside_of_every_range_harms_nobody() -> Result<()> {
    test("outside", Needs::ControlPlane, |lab| {
        let (scene, client) = world(lab)?;
        let outside = Endpoint::ready("203.0.113.7".parse()?);
        client.apply(&service("outside", "10.96.9.4", &http())?.json())?;
        client.apply(&Slice::new("outside-1", "outside", &http(), &[outside]).json())?;
        eventually("it is programmed as written", || {
            let view = scene.agent.json(&["service", "get", "default/outside"])?;
            ensure!(view.to_string().contains("203.0.113.7"), "{view}");
            Ok(())
        })?;
        let call = Call::connect("10.96.9.4:80".parse()?)
            .count(2)
            .option("--timeout", 200);
        let report = scene.client.place().call(&call)?;
        ensure!(report.answered == 0, "{report:?}");
        let report = scene
            .client
            .place()
            .call(&Call::connect(scene.any()?).count(100))?;
        ensure_clean(&report)
    })
}
