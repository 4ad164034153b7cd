//! What the tests run on: real nodes without kube-proxy, the agent in its place as docs/install.md has it, cluster
//! DNS behind a Service of the agent's, and the images that the tests ask for.

use std::path::Path;

use anyhow::{Context, Result};
use mesh_lab::{Cluster, Lab};

use crate::{place, run};

/// Starts it all.
pub(super) fn start(lab: &mut Lab, nodes: usize, images: &Path) -> Result<Cluster> {
    run::say(&format!("starting a control plane and {nodes} nodes"));
    let cluster = Cluster::start(lab, nodes)?;
    let outcome = furnish(&cluster, images);
    if outcome.is_err() {
        eprintln!("{}", cluster.diagnosis());
    }
    outcome.map(|()| cluster)
}

fn furnish(cluster: &Cluster, images: &Path) -> Result<()> {
    run::say("installing the agent");
    cluster.load_image("mesh-agent.tar")?;
    install(cluster).context("cannot install the agent")?;
    run::say("starting cluster DNS and giving each node the tests' images");
    cluster.start_dns()?;
    cluster.load_archive(images)
}

fn install(cluster: &Cluster) -> Result<()> {
    let manifest = place::root().join("manifests/install.yaml");
    cluster.kubectl(&["apply", "-f", &manifest.display().to_string()])?;
    let patch = format!(r#"{{"data":{{"api-server":"{}"}}}}"#, cluster.server());
    for words in [
        &[
            "patch",
            "configmap",
            "mesh-agent",
            "--type",
            "merge",
            "-p",
            &patch,
        ][..],
        &["rollout", "restart", "daemonset/mesh-agent"],
        &["rollout", "status", "daemonset/mesh-agent", "--timeout=90s"],
    ] {
        cluster.kubectl(&[&["-n", "mesh-agent"], words].concat())?;
    }
    Ok(())
}

/// What the agents say of themselves.
pub(super) fn agent_version(cluster: &Cluster) -> Result<String> {
    let words = [
        "-n",
        "mesh-agent",
        "exec",
        "daemonset/mesh-agent",
        "--",
        "/mesh-agent",
    ];
    let text = cluster.kubectl(&[&words[..], &["version"]].concat())?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
