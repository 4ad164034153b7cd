//! What an image's static binary is built with: Rust's target for musl, and a C compiler for what some crates have in C.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::apt;
use crate::{image::Arch, run};

/// Makes sure that images for an architecture can be built.
pub(crate) fn cross(arch: Arch) -> Result<()> {
    rust_target(arch)?;
    c_compiler(arch)
}

fn rust_target(arch: Arch) -> Result<()> {
    let sysroot = run::capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    let libraries = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(arch.target());
    if libraries.is_dir() {
        return Ok(());
    }
    run::run(Command::new("rustup").args(["target", "add", arch.target()])).with_context(|| {
        format!(
            "rustup could not add {}, which the image's binary is built for",
            arch.target()
        )
    })
}

fn c_compiler(arch: Arch) -> Result<()> {
    if run::find(arch.c_compiler()).is_some() {
        return Ok(());
    }
    if !apt::is_here() {
        bail!(
            "missing: {}, the C compiler for {}: install it, then run this again",
            arch.c_compiler(),
            arch.target()
        );
    }
    run::say(&format!("missing: {}", arch.c_compiler()));
    apt::install(arch.c_packages())
}
