//! The static binary: the release profile for musl, linked by the toolchain's own linker, so that nothing of the
//! machine's C library gets in. Paths of the machine are kept out of it, or two checkouts would differ.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::Arch;
use crate::{place, run};

/// Builds what cargo's arguments name; gives the binary's path, which the next build of other features overwrites.
pub(super) fn build(arch: Arch, arguments: &[&str], name: &str) -> Result<PathBuf> {
    let target = arch.target();
    let mut command = run::cargo();
    command
        .args(["build", "--release", "--locked"])
        .args(arguments)
        .args(["--target", target])
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\x1f"))
        .env(variable("CC", target), arch.c_compiler())
        .env(variable("CFLAGS", target), c_flags()?.join(" "))
        // A linker or flags that the caller set are for the host.
        .env_remove("RUSTFLAGS");
    run::run(&mut command)?;
    Ok(place::target().join(target).join("release").join(name))
}

/// How the crate `cc` wants a variable for one target named.
fn variable(name: &str, target: &str) -> String {
    format!("{name}_{}", target.replace('-', "_"))
}

/// rust-lld and the C library that came with the target serve both architectures on any host.
fn flags() -> Result<Vec<String>> {
    let mut flags = vec![
        "-Clinker=rust-lld".to_owned(),
        "-Clinker-flavor=ld.lld".to_owned(),
        "-Clink-self-contained=yes".to_owned(),
        "-Ctarget-feature=+crt-static".to_owned(),
    ];
    for (from, to) in prefixes()? {
        flags.push(format!("--remap-path-prefix={from}={to}"));
    }
    Ok(flags)
}

fn c_flags() -> Result<Vec<String>> {
    let prefixes = prefixes()?.into_iter();
    Ok(prefixes
        .map(|(from, to)| format!("-ffile-prefix-map={from}={to}"))
        .collect())
}

/// Directories of this machine that compilers write into binaries, and what to write instead. The last that fits
/// counts, so what may lie in another comes after it.
fn prefixes() -> Result<Vec<(String, String)>> {
    let sysroot = run::capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    let text = |path: &Path| path.display().to_string();
    Ok(vec![
        (text(&place::root()), "/mesh-agent".to_owned()),
        (text(&place::target()), "/target".to_owned()),
        (text(&cargo_home()?), "/cargo".to_owned()),
        (sysroot.trim().to_owned(), "/rust".to_owned()),
    ])
}

fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(PathBuf::from(home)),
        None => Ok(std::env::home_dir()
            .context("no home directory: set CARGO_HOME")?
            .join(".cargo")),
    }
}

/// The one time in the image: SOURCE_DATE_EPOCH where the caller says it, else when the tree was last committed.
pub(super) fn source_time() -> Result<u64> {
    if let Ok(seconds) = std::env::var("SOURCE_DATE_EPOCH") {
        return seconds
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH={seconds} is no number of seconds"));
    }
    let seconds = run::capture(Command::new("git").current_dir(place::root()).args([
        "log",
        "-1",
        "--format=%ct",
    ]))
    .context("not a git checkout: set SOURCE_DATE_EPOCH to the release's time")?;
    seconds
        .trim()
        .parse()
        .context("git has no time of the last commit")
}
