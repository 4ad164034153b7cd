//! The real control plane for tests: one Go program that links etcd, Kubernetes and kube-proxy.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{go, place, run};

/// What the components call themselves; the version of k8s.io/kubernetes in go.mod.
pub(crate) const VERSION: &str = "v1.36.3";

/// The program, from the cache or built into it.
pub(crate) fn binary() -> Result<PathBuf> {
    let directory = go::cached("control-plane", &source(), &[], build)?;
    Ok(directory.join("control-plane"))
}

/// Builds it where that can work; where it cannot, the lane will say so.
pub(crate) fn fetch() {
    let made = match obstacle() {
        Some(why) => Err(anyhow::anyhow!(why)),
        None => binary().map(drop),
    };
    if let Err(error) = made {
        run::say(&format!("no control plane to test with: {error:#}"));
    }
}

/// Why it cannot be had here, if so.
pub(crate) fn obstacle() -> Option<String> {
    go::obstacle()
}

/// Format and vet.
pub(crate) fn lint() -> Result<()> {
    if let Some(why) = obstacle() {
        run::say(&format!("the control plane is NOT checked: {why}"));
        return Ok(());
    }
    go::lint(&source())
}

fn build(directory: &Path) -> Result<()> {
    run::say("building the control plane: some eight minutes on two CPUs, once");
    go::build(
        go::go(&source())
            .args([
                "build",
                "-v",
                "-trimpath",
                "-ldflags",
                &linker_flags(),
                "-o",
            ])
            .arg(directory)
            .arg("."),
    )
}

/// Without them the components would not know their version.
pub(crate) fn linker_flags() -> String {
    format!("-s -w -X k8s.io/component-base/version.gitVersion={VERSION}")
}

fn source() -> PathBuf {
    place::root().join("tests/control-plane")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_components_name_is_the_one_that_is_linked() {
        let modules = std::fs::read_to_string(source().join("go.mod")).unwrap();
        assert!(modules.contains(&format!("\tk8s.io/kubernetes {VERSION}\n")));
    }
}
