//! What an API server refuses is named with kind, cause and fix; once it is mended the running agent goes on by itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Agent, AgentOptions, Families, Lab, Needs, eventually, test};
use serde_json::{Value, json};

/// An agent with a kubeconfig of its own, which the test spoils and mends.
struct World {
    agent: Agent,
    path: PathBuf,
    good: Value,
}

fn world(lab: &mut Lab, spoil: impl FnOnce(&mut Value)) -> Result<World> {
    lab.use_control_plane()?;
    let control_plane = lab.control_plane().context("it was started")?;
    let good: Value = serde_json::from_slice(&fs::read(control_plane.kubeconfig())?)?;
    let path = control_plane.directory().join("agent.kubeconfig");
    let mut bad = good.clone();
    spoil(&mut bad);
    write(&path, &bad)?;
    let flags = ["--kubeconfig".to_owned(), path.display().to_string()];
    let node = lab.node("one", Families::Dual)?;
    let agent = node.start_agent(&AgentOptions::flags(&flags))?;
    Ok(World { agent, path, good })
}

fn write(path: &Path, kubeconfig: &Value) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, kubeconfig.to_string())?;
    Ok(fs::rename(new, path)?)
}

impl World {
    /// Status names all of these.
    fn names(&self, words: &[&str]) -> Result<()> {
        eventually("the agent says what is wrong", || {
            let status = self.agent.cli(&["status"])?.stdout;
            for word in words {
                ensure!(status.contains(word), "no {word:?} in {status}");
            }
            Ok(())
        })
    }

    /// The kubeconfig is mended, and that is all that is done.
    fn mend(&self) -> Result<()> {
        write(&self.path, &self.good)?;
        self.agent.wait_ready()?;
        eventually("nothing is wrong any more", || {
            let status = self.agent.cli(&["status"])?.stdout;
            ensure!(!status.contains("Problems"), "{status}");
            Ok(())
        })
    }
}

/// The first user or cluster of a kubeconfig.
fn part<'a>(kubeconfig: &'a mut Value, list: &str, part: &str) -> &'a mut Value {
    &mut kubeconfig[list][0][part]
}

#[test]
fn credentials_that_are_refused_are_renewed_while_the_agent_runs() -> Result<()> {
    test("token", Needs::ControlPlane, |lab| {
        let world = world(lab, |kubeconfig| {
            *part(kubeconfig, "users", "user") = json!({"token": "expired"});
        })?;
        world.names(&["watch of Service", "Unauthorized", "renew the token"])?;
        world.mend()
    })
}

#[test]
fn a_certificate_of_another_authority_is_not_trusted() -> Result<()> {
    test("ca", Needs::ControlPlane, |lab| {
        let world = world(lab, |kubeconfig| {
            // A certificate that signed nothing.
            let own = part(kubeconfig, "users", "user")["client-certificate-data"].clone();
            part(kubeconfig, "clusters", "cluster")["certificate-authority-data"] = own;
        })?;
        world.names(&["API server", "certificate", "the cluster's own CA"])?;
        world.mend()
    })
}

/// One kind is forbidden: it is named, and the others are not.
#[test]
fn a_kind_that_is_forbidden_is_named() -> Result<()> {
    test("forbidden", Needs::ControlPlane, |lab| {
        lab.use_control_plane()?;
        let client = lab.control_plane().context("it was started")?.client()?;
        client.apply(&role(&["services", "nodes", "pods"]))?;
        client.apply(&binding())?;
        let world = world(lab, |kubeconfig| {
            part(kubeconfig, "users", "user")["as"] = json!("limited");
        })?;
        world.names(&["watch of EndpointSlice", "grant get, list and watch"])?;
        let status = world.agent.cli(&["status"])?.stdout;
        ensure!(!status.contains("watch of Service"), "{status}");
        client.apply(&role(&["services", "nodes", "pods", "endpointslices"]))?;
        world.agent.wait_ready()
    })
}

fn role(resources: &[&str]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "limited"},
        "rules": [{
            "apiGroups": ["", "discovery.k8s.io"], "resources": resources, "verbs": ["get", "list", "watch"],
        }],
    })
}

fn binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "limited"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "limited"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "limited"}],
    })
}
