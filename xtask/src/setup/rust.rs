//! The Rust side: a compiler that can make eBPF, its linker, and cargo's tools.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::apt;
use crate::run;

/// Kept in step with the compiler's LLVM: the linker must read the compiler's bitcode.
const LINKER: &str = "bpf-linker@0.13.0";
/// A release that the tree's compiler can build.
const DENY: &str = "cargo-deny@0.20.2";

/// A compiler that can make eBPF: one with a prebuilt `core` for it (Debian's), else nightly with the sources of
/// `core`. mesh-agent's build script looks for the same two.
pub(super) fn bpf_compiler() -> Result<()> {
    if prebuilt_core().is_some() || nightly_with_sources() {
        return Ok(());
    }
    if apt::is_here() && apt::has("libstd-rust-web-dev-bpf")? {
        return apt::install(&["rustc-web", "libstd-rust-web-dev-bpf"]);
    }
    run::say("no compiler with a prebuilt core for eBPF: taking rustup's nightly");
    run::run(Command::new("rustup").args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ]))
    .context(
        "rustup could not install nightly with rust-src, which eBPF programs are built with here",
    )
}

/// The compiler with a prebuilt `core` for eBPF.
pub(crate) fn prebuilt_core() -> Option<PathBuf> {
    let named = std::env::var_os("MESH_AGENT_BPF_RUSTC").map(PathBuf::from);
    named
        .into_iter()
        .chain([PathBuf::from("/usr/bin/rustc")])
        .find(|compiler| has_core(compiler, "bpfel-unknown-none"))
}

fn nightly_with_sources() -> bool {
    sysroot(Command::new("rustc").arg("+nightly")).is_some_and(|root| {
        root.join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .is_file()
    })
}

fn has_core(compiler: &Path, target: &str) -> bool {
    let Some(root) = sysroot(&mut Command::new(compiler)) else {
        return false;
    };
    let libraries = root.join("lib/rustlib").join(target).join("lib");
    std::fs::read_dir(libraries).is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

fn sysroot(compiler: &mut Command) -> Option<PathBuf> {
    let output = compiler.args(["--print", "sysroot"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

/// The clippy of that compiler.
pub(super) fn bpf_clippy() -> Result<()> {
    match prebuilt_core() {
        Some(compiler) if compiler.with_file_name("cargo-clippy").is_file() => Ok(()),
        Some(_) => apt::install(&["rust-web-clippy"]),
        None => run::run(Command::new("rustup").args([
            "component",
            "add",
            "--toolchain",
            "nightly",
            "clippy",
        ])),
    }
}

/// The linker of eBPF programs.
pub(super) fn bpf_linker() -> Result<()> {
    if run::succeeds(Command::new("bpf-linker").arg("--version")) {
        return Ok(());
    }
    let prefix = llvm()?;
    run::say("building bpf-linker, about a minute");
    run::run(run::cargo().env("LLVM_PREFIX", prefix).args([
        "install",
        LINKER,
        "--locked",
        "--no-default-features",
        "--features",
        "llvm-22",
    ]))
}

/// LLVM 22's libraries, which the linker is made of; gives where they are.
fn llvm() -> Result<String> {
    if run::find("llvm-config-22").is_none() || !Path::new("/usr/include/zstd.h").exists() {
        if !apt::is_here() || !apt::has("llvm-22-dev")? {
            bail!(
                "bpf-linker needs LLVM 22 with its headers, and this system's packages have none: install LLVM 22, \
                 then `cargo install {LINKER} --locked --no-default-features --features llvm-22` with LLVM_PREFIX \
                 set to its directory"
            );
        }
        apt::install(&[
            "g++",
            "llvm-22-dev",
            "libpolly-22-dev",
            "libzstd-dev",
            "zlib1g-dev",
        ])?;
    }
    Ok(
        run::capture(Command::new("llvm-config-22").arg("--prefix"))?
            .trim()
            .to_owned(),
    )
}

/// Parts of the toolchain that the tree is built with.
pub(super) fn components(names: &[&str]) -> Result<()> {
    let programs = [("clippy", "cargo-clippy"), ("rustfmt", "cargo-fmt")];
    for (name, program) in programs {
        let here = || run::succeeds(run::cargo().args([&program["cargo-".len()..], "--version"]));
        if names.contains(&name) && !here() {
            run::run(Command::new("rustup").args(["component", "add", name]))?;
        }
    }
    Ok(())
}

/// Checks licences and sources of dependencies.
pub(super) fn cargo_deny() -> Result<()> {
    if run::succeeds(run::cargo().args(["deny", "--version"])) {
        return Ok(());
    }
    run::say("building cargo-deny, some minutes");
    run::run(run::cargo().args(["install", DENY, "--locked"]))
}
