//! `setup`: installs what is missing and nothing else. Debian and Ubuntu through apt; elsewhere it prints what to
//! install. Fast when all is there, since every other verb calls it first.

mod apt;
mod cross;
mod pieces;
mod rust;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{cluster, control_plane, kernels, run};
pub(crate) use cross::cross;
use pieces::PIECES;
pub(crate) use rust::prebuilt_core;

/// What the tree is set up for; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Need {
    /// `cargo build` of everything, eBPF included
    Build,
    /// Network namespaces and traffic: the demo and the lab
    Lab,
    /// Every test lane but `cluster`
    Test,
    /// Every test lane
    Cluster,
    /// What .ci/run calls besides
    Ci,
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What for
    #[arg(value_enum, default_value = "cluster")]
    need: Need,
}

/// The verb.
pub(crate) fn setup(arguments: &Arguments) -> Result<()> {
    ensure(arguments.need)?;
    run::say("everything is there");
    Ok(())
}

/// Makes sure that everything for a need is there.
pub(crate) fn ensure(need: Need) -> Result<()> {
    system(need)?;
    if need >= Need::Ci {
        rust::components(&["clippy", "rustfmt"])?;
    }
    rust::bpf_compiler()?;
    rust::bpf_linker()?;
    if need >= Need::Test {
        kernels::fetch()?;
        control_plane::fetch();
    }
    if need >= Need::Cluster {
        cluster::fetch();
    }
    if need >= Need::Ci {
        rust::bpf_clippy()?;
        rust::cargo_deny()?;
    }
    Ok(())
}

/// Packages of the system.
fn system(need: Need) -> Result<()> {
    let missing: Vec<_> = PIECES
        .iter()
        .filter(|piece| piece.need <= need && !(piece.present)())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::is_here() {
        for piece in &missing {
            eprintln!("missing: {}. Install {}", piece.name, piece.elsewhere);
        }
        bail!(
            "this system has no apt: install the {} above, then run this again",
            missing.len()
        );
    }
    let packages: Vec<_> = missing
        .iter()
        .flat_map(|piece| piece.packages)
        .copied()
        .collect();
    for piece in &missing {
        run::say(&format!("missing: {}", piece.name));
    }
    apt::install(&packages)
}
