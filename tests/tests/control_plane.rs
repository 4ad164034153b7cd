//! The control plane itself: endpoints are made by the real controllers from Pods whose status the lab sets, and the
//! API server can be away and come back.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    Client, ControlPlane, ControlPlaneOptions, Families, Lab, Needs, Node, PodManifest, Port,
    Service, node, test,
};
use serde_json::{Value, json};

struct World {
    control_plane: ControlPlane,
    client: Client,
    worker: Node,
}

fn world(
    lab: &mut Lab,
    options: impl FnOnce(ControlPlaneOptions) -> ControlPlaneOptions,
) -> Result<World> {
    let master = lab.node("master", Families::Dual)?;
    let worker = lab.node("one", Families::Dual)?;
    let control_plane = ControlPlane::start(&options(ControlPlaneOptions::on(&master)?))?;
    let client = control_plane.client()?;
    client.apply(&node(&worker))?;
    Ok(World {
        control_plane,
        client,
        worker,
    })
}

/// The addresses in slices whose endpoints are ready, in order.
fn ready(slices: &[Value]) -> Vec<String> {
    let endpoints = slices
        .iter()
        .filter_map(|slice| slice["endpoints"].as_array())
        .flatten();
    let mut addresses: Vec<String> = endpoints
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .filter_map(|endpoint| Some(endpoint["addresses"][0].as_str()?.to_owned()))
        .collect();
    addresses.sort();
    addresses
}

fn web() -> Service {
    Service::new(
        "web",
        &[IpAddr::from([10, 96, 0, 80])],
        &[Port::tcp("http", 80, 8080)],
    )
    .selector("web")
}

#[test]
fn real_controllers_make_slices_of_pods() -> Result<()> {
    test("slices", Needs::ControlPlane, |lab| {
        let World {
            client,
            worker,
            control_plane,
        } = world(lab, ControlPlaneOptions::audit)?;
        client.apply(&web().json())?;
        let ports = [Port::tcp("http", 80, 8080)];
        let pods = [worker.pod("web-0")?, worker.pod("web-1")?];
        let manifests: Vec<Value> = pods
            .iter()
            .map(|pod| PodManifest::new(pod, "web", &ports).json())
            .collect();
        client.apply_all(&manifests)?;
        let mut both: Vec<String> = pods
            .iter()
            .filter_map(|pod| Some(pod.address().v4?.to_string()))
            .collect();
        both.sort();
        let slices = client.wait_for_slices("web", |slices| ready(slices) == both)?;
        let maker = &slices[0]["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
        ensure!(
            maker == "endpointslice-controller.k8s.io",
            "made by {maker}"
        );

        client.apply(&PodManifest::new(&pods[0], "web", &ports).unready().json())?;
        client.wait_for_slices("web", |slices| ready(slices) == both[1..])?;
        client.terminate(&manifests[1], 30)?;
        client.wait_for_slices("web", |slices| {
            ready(slices).is_empty()
                && slices[0]["endpoints"]
                    .to_string()
                    .contains(r#""terminating":true"#)
        })?;
        client.delete_all(&manifests)?;
        client.wait_for_slices("web", |slices| {
            slices
                .iter()
                .all(|slice| slice["endpoints"].as_array().is_none_or(Vec::is_empty))
        })?;
        let log = control_plane
            .audit_log()
            .context("an audit log was asked for")?;
        ensure!(
            std::fs::read_to_string(log)?.contains("mesh-lab"),
            "the audit log knows who applied"
        );
        Ok(())
    })
}

#[test]
fn the_api_server_comes_back_with_all_it_had() -> Result<()> {
    test("restart", Needs::ControlPlane, |lab| {
        let World {
            client,
            mut control_plane,
            ..
        } = world(lab, |options| options)?;
        let service = web().json();
        client.apply(&service)?;
        let before = client.get(&service)?.context("the Service was applied")?;
        for away in [ControlPlane::stop_apiserver, ControlPlane::kill_apiserver] {
            away(&mut control_plane)?;
            ensure!(
                client.get(&service).is_err(),
                "nobody answers while it is away"
            );
            control_plane.start_apiserver()?;
            let after = client
                .get(&service)?
                .context("the Service is still there")?;
            ensure!(before == after, "{before} became {after}");
        }
        Ok(())
    })
}

#[test]
fn a_token_is_worth_what_its_account_may_do() -> Result<()> {
    test("token", Needs::ControlPlane, |lab| {
        let World {
            client,
            control_plane,
            ..
        } = world(lab, |options| options)?;
        client.namespace("agents")?;
        let token = client.token("agents", "default", 600)?;
        let kubeconfig = control_plane.token_kubeconfig(control_plane.server(), "agent", &token)?;
        let agent = Client::new(&kubeconfig, control_plane.place())?;
        let refused = agent
            .list("v1", "Service", None, "")
            .err()
            .context("it has no right")?;
        ensure!(format!("{refused:#}").contains("forbidden"), "{refused:#}");
        client.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "agents-view"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "agents", "name": "default"}],
        }))?;
        mesh_lab::eventually("the role is in force", || {
            agent.list("v1", "Service", None, "")
        })
        .map(drop)
    })
}
