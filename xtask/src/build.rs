//! `build`: the release binary of mesh-agent, the eBPF programs in it, and the other binaries that tests need.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{place, run, setup};

/// The verb.
pub(crate) fn build() -> Result<()> {
    setup::ensure(setup::Need::Build)?;
    println!("{}", agent()?.display());
    Ok(())
}

/// Builds mesh-agent for release; gives its path.
pub(crate) fn agent() -> Result<PathBuf> {
    run::run(run::cargo().args(["build", "--release", "--locked", "-p", "mesh-agent"]))?;
    Ok(place::target().join("release/mesh-agent"))
}

/// Builds mesh-agent with the second layout of some maps and the programs' log, for tests of both; gives its path. Not for
/// release, which takes minutes more; and in a target directory of its own, or the two builds would undo each other.
pub(crate) fn next_agent() -> Result<PathBuf> {
    let target = place::target().join("next");
    run::run(
        run::cargo()
            .args(["build", "--locked", "-p", "mesh-agent"])
            .args(["--features", "layout-next,kernel-log", "--target-dir"])
            .arg(&target),
    )?;
    Ok(target.join("debug/mesh-agent"))
}

/// Builds the lab's traffic tool for release: the bench's client.
pub(crate) fn release_traffic() -> Result<PathBuf> {
    run::run(run::cargo().args([
        "build",
        "--release",
        "--locked",
        "-p",
        "mesh-lab",
        "--bin",
        "traffic",
    ]))?;
    Ok(place::target().join("release/traffic"))
}

/// Builds the lab's traffic tool; gives its path. Beside this program, where the lab looks for it.
pub(crate) fn traffic() -> Result<PathBuf> {
    run::run(run::cargo().args(["build", "--locked", "-p", "mesh-lab", "--bin", "traffic"]))?;
    Ok(place::target().join("debug/traffic"))
}

/// Builds the program that tries the datapath on a kernel; gives its path.
pub(crate) fn smoke() -> Result<PathBuf> {
    run::run(run::cargo().args(["build", "--release", "--locked", "-p", "mesh-smoke"]))?;
    Ok(place::target().join("release/mesh-smoke"))
}

/// The eBPF object that the release build of mesh-agent embeds: its build script's output.
pub(crate) fn object() -> Result<PathBuf> {
    let messages = run::capture(run::cargo().args([
        "build",
        "--release",
        "--locked",
        "-p",
        "mesh-agent",
        "--message-format",
        "json-render-diagnostics",
    ]))?;
    let directory = out_directory(&messages)
        .context("mesh-agent has no build script that makes the eBPF object")?;
    find_object(&directory, 8).with_context(|| {
        format!(
            "mesh-agent's build script left no eBPF object in {}",
            directory.display()
        )
    })
}

fn out_directory(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "build-script-executed")
        .find(|message| {
            message["package_id"]
                .as_str()
                .is_some_and(|id| id.contains("/mesh-agent#"))
        })
        .and_then(|message| Some(PathBuf::from(message["out_dir"].as_str()?)))
}

/// The file `mesh-ebpf`, not too deep down: the build script's own cargo puts it below a directory of its own.
fn find_object(directory: &std::path::Path, depth: usize) -> Option<PathBuf> {
    let candidate = directory.join("mesh-ebpf");
    if candidate.is_file() {
        return Some(candidate);
    }
    if depth == 0 {
        return None;
    }
    let mut below: Vec<_> = std::fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    below.sort();
    below.iter().find_map(|path| find_object(path, depth - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_scripts_directory_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","package_id":"path+file:///x/mesh-agent#0.1.0"}"#,
            "\n",
            r#"{"reason":"build-script-executed","package_id":"registry+x#libc@0.2.1","out_dir":"/a"}"#,
            "\n",
            r#"{"reason":"build-script-executed","package_id":"path+file:///x/mesh-agent#0.1.0","out_dir":"/b"}"#,
        );
        assert_eq!(out_directory(messages), Some(PathBuf::from("/b")));
    }
}
