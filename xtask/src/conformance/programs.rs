//! Kubernetes' own end-to-end tests and what runs them, built by their upstream package names from the module
//! tests/conformance: e2e.test, ginkgo, kubectl, and the programs of the images that the tests put into Pods.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{control_plane, go, place, run};

const SUITE: &str = "k8s.io/kubernetes/test/e2e";
const AGNHOST: &str = "k8s.io/kubernetes/test/images/agnhost";
const PROGRAMS: [&str; 4] = [
    "github.com/onsi/ginkgo/v2/ginkgo",
    "k8s.io/kubernetes/cmd/kubectl",
    AGNHOST,
    "k8s.io/kubernetes/test/images/regression-issue-74839",
];
/// What agnhost's server of TLS reads at its image's root.
pub(super) const CERTIFICATE: [&str; 2] = ["localhost.crt", "localhost.key"];

/// The directory of all programs, from the cache or built into it.
pub(super) fn programs() -> Result<PathBuf> {
    go::cached("conformance", &source(), &[control_plane::VERSION], build)
}

fn build(directory: &Path) -> Result<()> {
    run::say("building Kubernetes' end-to-end tests: some five minutes on two CPUs, once");
    let flags = linker_flags();
    go::build(
        go::go(&source())
            .args(["test", "-c", "-trimpath", "-ldflags", &flags, "-o"])
            .arg(directory.join("e2e.test"))
            .arg(SUITE),
    )?;
    go::build(
        go::go(&source())
            .args(["build", "-v", "-trimpath", "-ldflags", &flags, "-o"])
            .arg(directory)
            .args(PROGRAMS),
    )?;
    let list = ["list", "-f", "{{.Dir}}"];
    let agnhost = run::capture(go::go(&source()).args(list).arg(AGNHOST))?;
    for name in CERTIFICATE {
        let from = Path::new(agnhost.trim()).join("porter").join(name);
        fs::copy(&from, directory.join(name))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// The tests ask for more of the version than components do.
fn linker_flags() -> String {
    let mut numbers = control_plane::VERSION.trim_start_matches('v').split('.');
    let mut next = || numbers.next().unwrap_or_default();
    let (major, minor) = (next(), next());
    let package = "k8s.io/component-base/version";
    format!(
        "{} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}",
        control_plane::linker_flags()
    )
}

/// The names of all images that the tests may ask for.
pub(super) fn image_names(programs: &Path) -> Result<Vec<String>> {
    let mut command = Command::new(programs.join("e2e.test"));
    let text = run::capture(command.arg("--list-images"))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Format alone: the module has nothing of its own to compile.
pub(crate) fn lint() -> Result<()> {
    if let Some(why) = go::obstacle() {
        run::say(&format!(
            "the end-to-end tests' module is NOT checked: {why}"
        ));
        return Ok(());
    }
    go::lint_format(&source())
}

/// The module.
pub(super) fn source() -> PathBuf {
    place::root().join("tests/conformance")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_of_the_control_planes_version() {
        let modules = fs::read_to_string(source().join("go.mod")).unwrap();
        let version = format!("k8s.io/kubernetes {}\n", control_plane::VERSION);
        assert!(modules.contains(&version));
    }

    #[test]
    fn the_version_is_named_in_parts_too() {
        assert!(linker_flags().contains("gitMajor=1 "));
    }
}
