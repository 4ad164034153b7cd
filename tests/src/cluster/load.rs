//! Servers, clients and DNS in a cluster, and traffic by Pods: what a Pod saw is its log. So nothing of a call goes
//! through the kubelet, which a test may kill.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Cluster, objects};
use crate::{call::Call, harness::eventually, traffic::Report};

/// A Pod that calls until it is told to end. It stays in the cluster afterwards.
#[derive(Debug)]
pub struct ClusterLoad {
    pod: Value,
    node: String,
    verb: String,
}

impl Cluster {
    /// Starts servers named so behind a Service of this address, port 80, and waits until all are ready.
    pub fn serve(&self, name: &str, address: &str, replicas: u32) -> Result<()> {
        self.client.apply(&objects::service(name, address))?;
        self.client.apply(&objects::servers(name, replicas))?;
        self.wait_available("default", name)
    }

    /// Starts cluster DNS. It finds the API server by a ClusterIP, so an agent must run.
    pub fn start_dns(&self) -> Result<()> {
        self.client.apply_all(&objects::dns())?;
        self.wait_available("kube-system", "coredns")
    }

    /// Waits until all of a Deployment is available.
    fn wait_available(&self, namespace: &str, name: &str) -> Result<()> {
        let deployment = format!("deployment/{name}");
        let status = ["rollout", "status", &deployment, "--timeout=60s"];
        let said = self.kubectl(&[&["-n", namespace], &status[..]].concat());
        said.map(drop)
            .with_context(|| format!("{deployment} is not available"))
    }

    /// Runs a call to its end in a Pod on a node; the call must have a count or a duration.
    pub fn call(&self, pod: &str, node: &str, call: &Call) -> Result<Report> {
        let manifest = objects::client(pod, node, &call.arguments);
        self.client.apply(&manifest)?;
        self.report(&manifest)
    }

    /// Runs a call to its end inside a Pod of servers, which is named as kubectl does it.
    pub fn call_from(&self, pod: &str, call: &Call) -> Result<Report> {
        let arguments = call.arguments.iter().map(String::as_str);
        let words: Vec<&str> = ["exec", pod, "--", "/traffic"]
            .into_iter()
            .chain(arguments)
            .collect();
        parse(pod, &self.kubectl(&words)?)
    }

    /// Starts a call that goes on until it is told to end, and waits until its Pod runs.
    pub fn load(&self, pod: &str, node: &str, call: &Call) -> Result<ClusterLoad> {
        let manifest = objects::client(pod, node, &call.arguments);
        self.client.apply(&manifest)?;
        self.client.wait_for(&manifest, |found| {
            found.is_some_and(|pod| pod["status"]["phase"] == "Running")
        })?;
        let verb = call.arguments.first().context("a call has a verb")?;
        Ok(ClusterLoad {
            pod: manifest,
            node: node.to_owned(),
            verb: verb.clone(),
        })
    }

    /// What a Pod saw, once it has ended.
    fn report(&self, pod: &Value) -> Result<Report> {
        let name = pod["metadata"]["name"].as_str().context("it has a name")?;
        eventually("the Pod has ended", || {
            let found = self.client.get(pod)?.context("it is gone")?;
            let phase = &found["status"]["phase"];
            ensure!(
                phase == "Succeeded" || phase == "Failed",
                "{name} is {phase}"
            );
            Ok(())
        })?;
        parse(name, &self.kubectl(&["logs", name])?)
    }
}

/// The report is the last line.
fn parse(pod: &str, said: &str) -> Result<Report> {
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("the Pod {pod} says {said:?}"))
}

impl ClusterLoad {
    /// Ends it; gives what became of it.
    pub fn end(self, cluster: &Cluster) -> Result<Report> {
        let found = cluster.client.get(&self.pod)?.context("its Pod is gone")?;
        let uid = found["metadata"]["uid"].as_str().context("it has a uid")?;
        let node = cluster.node(&self.node)?;
        node.signal_in_pod(uid, &self.verb, Signal::SIGTERM)?;
        cluster.report(&self.pod)
    }
}
