//! Events where kube-proxy writes them, and where an object's owner looks when it is not served.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Client, Families, Lab, Needs, Node, eventually, test};
use serde_json::{Value, json};

/// Another kind of address than the two that can be served.
fn slice_of_names() -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-names",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "FQDN",
        "endpoints": [{"addresses": ["web.example.com"]}],
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"ports": [{"port": 80, "protocol": "TCP"}]},
    })
}

fn world(lab: &mut Lab) -> Result<(Client, Node)> {
    lab.use_control_plane()?;
    let control_plane = lab.control_plane().context("it was started")?;
    Ok((control_plane.client()?, lab.node("one", Families::Dual)?))
}

/// The Events of the agent about an object.
fn events(client: &Client, kind: &str, name: &str) -> Result<Vec<Value>> {
    let mut all = client.list("events.k8s.io/v1", "Event", Some("default"), "")?;
    all.retain(|event| {
        let about = &event["regarding"];
        event["reportingController"] == "mesh-agent"
            && about["kind"] == kind
            && about["name"] == name
    });
    Ok(all)
}

#[test]
fn the_node_and_owners_of_objects_are_told() -> Result<()> {
    test("events", Needs::ControlPlane, |lab| {
        let (client, node) = world(lab)?;
        client.apply_all(&[service(), slice_of_names()])?;
        let agent = node.agent()?;
        eventually("the node is told that the agent starts", || {
            let events = events(&client, "Node", "one")?;
            let [event] = events.as_slice() else {
                anyhow::bail!("{events:?}");
            };
            ensure!(
                event["reason"] == "Starting" && event["type"] == "Normal",
                "{event}"
            );
            ensure!(event["regarding"]["uid"] == "one", "{event}");
            ensure!(event["reportingInstance"] == "one", "{event}");
            Ok(())
        })?;
        let uid = client.get(&slice_of_names())?.context("the slice")?["metadata"]["uid"].clone();
        eventually("the slice's owner is told", || {
            let events = events(&client, "EndpointSlice", "web-names")?;
            let [event] = events.as_slice() else {
                anyhow::bail!("{events:?}");
            };
            ensure!(event["reason"] == "NotServedAsWritten", "{event}");
            ensure!(event["type"] == "Warning", "{event}");
            ensure!(event["regarding"]["uid"] == uid, "{event}");
            ensure!(event["regarding"]["fieldPath"] == "addressType", "{event}");
            Ok(())
        })?;
        drop(agent);
        Ok(())
    })
}

#[test]
fn a_health_check_that_cannot_be_answered_is_told_as_kube_proxy_tells_it() -> Result<()> {
    test("events-health", Needs::ControlPlane, |lab| {
        let (client, node) = world(lab)?;
        let bind = || Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 32_101))?);
        let other = node.host().within(bind)?;
        let mut balanced = service();
        balanced["spec"]["type"] = json!("LoadBalancer");
        balanced["spec"]["externalTrafficPolicy"] = json!("Local");
        balanced["spec"]["healthCheckNodePort"] = json!(32_101);
        client.apply(&balanced)?;
        let agent = node.agent()?;
        eventually("the Service's owner is told", || {
            let events = events(&client, "Service", "web")?;
            let [event] = events.as_slice() else {
                anyhow::bail!("{events:?}");
            };
            ensure!(
                event["reason"] == "FailedToStartServiceHealthcheck",
                "{event}"
            );
            ensure!(event["action"] == "Listen", "{event}");
            let note = event["note"].as_str().unwrap_or_default();
            let said = "node one failed to start healthcheck \"default/web\" on port 32101";
            ensure!(note.starts_with(said), "{note}");
            Ok(())
        })?;
        drop((agent, other));
        Ok(())
    })
}
