//! What a real cluster in the lab is made of: the kubelet and its like as one Go program, containerd and the CNI's
//! plugins, and the images that its nodes are given, the agent's own among them.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{
    control_plane, go,
    image::{self, Program},
    place, run,
};

const CONTAINERD: &str = "v2.2.9";
const PLUGINS: &str = "v1.9.1";
/// The second build of the agent that nodes are given: another layout of some maps.
const NEXT: &str = "next";

/// The directory of all programs, from the cache or built into it.
pub(crate) fn programs() -> Result<PathBuf> {
    go::cached("cluster", &source(), &[CONTAINERD, PLUGINS], build)
}

/// Builds them where that can work; where it cannot, the lane will say so.
pub(crate) fn fetch() {
    let made = match obstacle() {
        Some(why) => Err(anyhow::anyhow!(why)),
        None => programs().map(drop),
    };
    if let Err(error) = made {
        run::say(&format!("no cluster to test with: {error:#}"));
    }
}

/// Why there can be no cluster here, if so.
pub(crate) fn obstacle() -> Option<String> {
    go::obstacle().or_else(|| {
        let missing = ["runc", "nsenter", "unshare"]
            .into_iter()
            .find(|program| run::find(program).is_none());
        missing.map(|program| format!("there is no {program}: `cargo xtask setup` installs it"))
    })
}

/// Format and vet.
pub(crate) fn lint() -> Result<()> {
    if let Some(why) = go::obstacle() {
        run::say(&format!("the programs of a node are NOT checked: {why}"));
        return Ok(());
    }
    go::lint(&source())
}

/// Builds all images; gives the directory of their archives.
pub(crate) fn images() -> Result<PathBuf> {
    let directory = images_of_one_agent()?;
    next_agent(&directory)?;
    Ok(directory)
}

/// The same, without the agent that another one is replaced by.
pub(crate) fn images_of_one_agent() -> Result<PathBuf> {
    let directory = place::target().join("cluster-images");
    let agent = image::static_binary(&["-p", "mesh-agent"], "mesh-agent")?;
    image::of_binary(&Program::agent(image::tag()), &agent, &directory)?;
    let traffic = image::static_binary(&["-p", "mesh-lab", "--bin", "traffic"], "traffic")?;
    image::of_binary(
        &test_program("mesh-lab.io/traffic", "traffic", &["pause"]),
        &traffic,
        &directory,
    )?;
    let dns = programs()?.join("coredns");
    image::of_binary(
        &test_program("mesh-lab.io/coredns", "coredns", &[]),
        &dns,
        &directory,
    )?;
    Ok(directory)
}

fn next_agent(directory: &Path) -> Result<PathBuf> {
    let arguments = ["-p", "mesh-agent", "--features", "layout-next"];
    let binary = image::static_binary(&arguments, "mesh-agent")?;
    image::of_binary(
        &Program::agent(NEXT.to_owned()),
        &binary,
        &directory.join(NEXT),
    )
}

fn test_program(
    repository: &'static str,
    name: &'static str,
    command: &'static [&'static str],
) -> Program {
    Program {
        repository,
        tag: "lab".to_owned(),
        name,
        command,
        description: "Of the lab's clusters; for tests alone",
    }
}

fn build(directory: &Path) -> Result<()> {
    run::say("building a cluster's programs: some ten minutes on two CPUs, once");
    let flags = control_plane::linker_flags();
    go::build(
        go::go(&source())
            .args(["build", "-v", "-trimpath", "-ldflags", &flags, "-o"])
            .arg(directory)
            .args([".", "./coredns"]),
    )?;
    let containerd = ["containerd", "containerd-shim-runc-v2", "ctr"]
        .map(|name| format!("github.com/containerd/containerd/v2/cmd/{name}@{CONTAINERD}"));
    install(directory, &containerd)?;
    let plugins = ["main/bridge", "main/loopback", "ipam/host-local"]
        .map(|name| format!("github.com/containernetworking/plugins/plugins/{name}@{PLUGINS}"));
    install(&directory.join("cni"), &plugins)
}

/// Modules of their own, since they and Kubernetes need other versions of the same ones.
fn install(directory: &Path, packages: &[String]) -> Result<()> {
    go::build(
        go::go(&place::root())
            .args(["install", "-v", "-ldflags", "-s -w"])
            .args(packages)
            .env("GOBIN", directory),
    )
}

fn source() -> PathBuf {
    place::root().join("tests/cluster")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_are_of_the_control_planes_version() {
        let modules = std::fs::read_to_string(source().join("go.mod")).unwrap();
        let version = format!("k8s.io/kubernetes {}\n", control_plane::VERSION);
        assert!(modules.contains(&version));
    }
}
