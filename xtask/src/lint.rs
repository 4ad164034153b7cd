//! `lint`: what a compiler does not refuse and a reviewer should not have to say. Each step runs, whatever became of
//! those before it.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};

use crate::{cluster, conformance, control_plane, manifests, place, run, schema, setup};

/// What the eBPF side is built for, to a compiler that has no linker to tell it.
const BPF: [&str; 10] = [
    "--locked",
    "--target",
    "bpfel-unknown-none",
    "--profile",
    "ebpf",
    "-p",
    "mesh-common",
    "-p",
    "mesh-ebpf",
    "--features=mesh-ebpf/kernel-log",
];

type Step = fn() -> Result<()>;

/// The verb.
pub(crate) fn lint() -> Result<()> {
    setup::ensure(setup::Need::Ci)?;
    let steps: [(&str, Step); 10] = [
        ("format", format),
        ("clippy for the host", clippy),
        ("clippy for eBPF", clippy_bpf),
        ("documentation", documentation),
        ("licences and sources", dependencies),
        ("schema.lock", schema::check),
        ("the control plane for tests", control_plane::lint),
        ("the cluster for tests", cluster::lint),
        ("the end-to-end tests", conformance::lint),
        ("manifests", manifests::check),
    ];
    let mut failed = Vec::new();
    for (name, step) in steps {
        if let Err(error) = step() {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "lint failed: {}", failed.join(", "));
    Ok(())
}

fn format() -> Result<()> {
    run::run(run::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    run::run(run::cargo().args([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

/// With the clippy that belongs to the compiler of the eBPF object: another's could not read its `core`.
fn clippy_bpf() -> Result<()> {
    let mut command = match setup::prebuilt_core() {
        Some(compiler) => prebuilt_clippy(&compiler),
        None => nightly_clippy(),
    };
    let architecture = std::env::consts::ARCH;
    command
        .current_dir(place::root())
        .args(BPF)
        .arg("--target-dir")
        .arg(place::target().join("bpf-clippy"))
        .env(
            "RUSTFLAGS",
            format!("--cfg bpf_target_arch=\"{architecture}\" -D warnings"),
        );
    run::run(&mut command)
}

fn prebuilt_clippy(compiler: &Path) -> Command {
    let mut command = Command::new(compiler.with_file_name("cargo-clippy"));
    command
        .arg("clippy")
        .env("RUSTC", compiler)
        .env("RUSTC_BOOTSTRAP", "1");
    // Else rustup puts its own toolchain in the compiler's way.
    command.env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn nightly_clippy() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "clippy", "-Z", "build-std=core"]);
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(variable);
    }
    command
}

fn documentation() -> Result<()> {
    run::run(run::cargo().env("RUSTDOCFLAGS", "-D warnings").args([
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
    ]))
}

/// The advisories are a database of their own, on a host that not every network reaches.
fn dependencies() -> Result<()> {
    run::run(run::cargo().args(["deny", "check", "bans", "licenses", "sources"]))?;
    if !run::succeeds(run::cargo().args(["deny", "fetch", "db"])) {
        run::say("advisories: NOT checked, their database cannot be fetched from here");
        return Ok(());
    }
    run::run(run::cargo().args(["deny", "check", "--disable-fetch", "advisories"]))
}
