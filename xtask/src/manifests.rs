//! `manifests`: writes what is made from other files: manifests/install.yaml from the kustomize base, and this tree's
//! version wherever a manifest or the chart names it. `lint` checks that nothing drifted.

#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;
mod tools;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{image, place};

/// A user may see install.yaml and nothing else of the tree.
const HEADING: &str = "\
# mesh-agent: Services of Kubernetes in the kernel, without kube-proxy. Made from manifests/base.
# Where no kube-proxy runs, set api-server in the ConfigMap to an address that works without Services.
";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only check that everything is up to date
    #[arg(long)]
    check: bool,
}

/// The verb.
pub(crate) fn manifests(arguments: &Arguments) -> Result<()> {
    if arguments.check {
        return check();
    }
    for (path, text) in generated()? {
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Whether everything is up to date, and what kubectl and helm say where they are installed.
pub(crate) fn check() -> Result<()> {
    for (path, text) in generated()? {
        let committed =
            std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(
            committed == text,
            "{} is out of date: run `cargo xtask manifests`",
            path.display()
        );
    }
    tools::kustomize()?;
    tools::helm()
}

/// Every file that the verb writes, with its content.
fn generated() -> Result<Vec<(PathBuf, String)>> {
    let directory = directory();
    let mut files = Vec::new();
    for name in [
        "base/daemon-set.yaml",
        "uninstall.yaml",
        "helm/mesh-agent/Chart.yaml",
    ] {
        files.push((directory.join(name), versioned(&read(name)?)));
    }
    files.push((directory.join("install.yaml"), install()?));
    Ok(files)
}

/// The base in one file: what `kubectl kustomize` makes of it, with its comments.
fn install() -> Result<String> {
    let kustomization: Value = serde_saphyr::from_str(&read("base/kustomization.yaml")?)?;
    let resources = kustomization["resources"]
        .as_array()
        .context("manifests/base/kustomization.yaml has no resources")?;
    let mut text = HEADING.to_owned();
    for resource in resources {
        let name = resource
            .as_str()
            .context("a resource of the base is no file name")?;
        text.push_str("---\n");
        text.push_str(&versioned(&read(&format!("base/{name}"))?));
    }
    Ok(text)
}

/// The text with this tree's version in every line that names one.
fn versioned(text: &str) -> String {
    let image = format!("image: {}:", image::REPOSITORY);
    let version = env!("CARGO_PKG_VERSION");
    let mut lines = String::with_capacity(text.len());
    for line in text.lines() {
        let content = line.trim_start_matches([' ', '-']);
        let start = &line[..line.len() - content.len()];
        lines.push_str(start);
        if content.starts_with(&image) {
            lines.push_str(&format!("{image}{}", image::tag()));
        } else if content.starts_with("version: ") {
            lines.push_str(&format!("version: {version}"));
        } else if content.starts_with("appVersion: ") {
            lines.push_str(&format!("appVersion: {version}"));
        } else {
            lines.push_str(content);
        }
        lines.push('\n');
    }
    lines
}

fn read(name: &str) -> Result<String> {
    let path = directory().join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn directory() -> PathBuf {
    place::root().join("manifests")
}
