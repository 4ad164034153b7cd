//! What kubectl and helm say about the manifests. Both are other people's programs that a machine may lack; what was
//! not checked is said.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{directory, install};
use crate::run;

/// kubectl's kustomize makes the same objects of the base as we do.
pub(super) fn kustomize() -> Result<()> {
    if run::find("kubectl").is_none() {
        run::say("manifests/base: NOT compared with kustomize's output, there is no kubectl");
        return Ok(());
    }
    let output = run::capture(
        Command::new("kubectl")
            .arg("kustomize")
            .arg(directory().join("base")),
    )?;
    let theirs = objects(&output)?;
    ensure!(
        theirs == objects(&install()?)?,
        "manifests/install.yaml is not what `kubectl kustomize manifests/base` makes"
    );
    Ok(())
}

/// helm's linter has nothing to say, and the chart as it is makes objects.
pub(super) fn helm() -> Result<()> {
    if run::find("helm").is_none() {
        run::say("manifests/helm: NOT linted, there is no helm");
        return Ok(());
    }
    let chart = directory().join("helm/mesh-agent");
    run::run(
        Command::new("helm")
            .args(["lint", "--strict", "--quiet"])
            .arg(&chart),
    )?;
    let rendered = run::capture(
        Command::new("helm")
            .args(["template", "mesh-agent", "--namespace", "mesh-agent"])
            // helm has no server to ask here, and its own idea of a version depends on how it was built.
            .args(["--kube-version", "1.36.0"])
            .arg(&chart),
    )?;
    same_workload(&objects(&rendered)?, &objects(&install()?)?)
}

/// The chart's DaemonSet and its permissions, with values as they are, are the base's.
fn same_workload(chart: &[Value], base: &[Value]) -> Result<()> {
    for (kind, parts) in [("DaemonSet", "/spec"), ("ClusterRole", "/rules")] {
        let part = |objects: &[Value]| {
            objects
                .iter()
                .find(|object| object["kind"] == kind)
                .and_then(|object| object.pointer(parts).cloned())
                .with_context(|| format!("no {kind} with {parts}"))
        };
        let (mut theirs, mut ours) = (part(chart)?, part(base)?);
        labels(&mut theirs);
        labels(&mut ours);
        ensure!(
            theirs == ours,
            "the chart's {kind} differs from the base's:\n{theirs:#}\n{ours:#}"
        );
    }
    Ok(())
}

/// Labels are the one thing in which charts have customs of their own.
fn labels(part: &mut Value) {
    for place in ["/selector/matchLabels", "/template/metadata"] {
        if let Some(value) = part.pointer_mut(place) {
            *value = Value::Null;
        }
    }
}

/// The documents of a file, in an order of their own.
pub(super) fn objects(text: &str) -> Result<Vec<Value>> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(text)?;
    objects
        .sort_by_cached_key(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
    Ok(objects)
}
