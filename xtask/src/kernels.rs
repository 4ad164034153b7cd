//! `kernels`: every eBPF program on old kernels and on the running one. Emulated machines boot Debian's kernels, a
//! smoke program loads, attaches and uses everything inside, and what the verifier had to walk is compared with the
//! committed figures.

pub(crate) mod debian;
mod figures;
mod guest;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{build, place, run, setup};
use debian::KERNELS;
use figures::{Figures, Report};

#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Commit to what is measured now: rewrites tests/kernels/verified.txt
    #[arg(long)]
    bless: bool,
    /// Only these kernels, such as 6.1, or `running`
    kernels: Vec<String>,
    /// An eBPF object to try instead of mesh-agent's; its figures are compared with nothing
    #[arg(long)]
    object: Option<PathBuf>,
    /// Load only: attach nothing, send nothing
    #[arg(long)]
    figures_only: bool,
}

/// What a run of the lane found.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Things that hold.
    pub(crate) passed: u32,
    /// What does not, in words.
    pub(crate) failures: Vec<String>,
}

/// The verb.
pub(crate) fn kernels(arguments: &Arguments) -> Result<()> {
    setup::ensure(setup::Need::Test)?;
    let outcome = measure(arguments)?;
    for failure in &outcome.failures {
        println!("FAILED {failure}");
    }
    anyhow::ensure!(
        outcome.failures.is_empty(),
        "{} checks failed",
        outcome.failures.len()
    );
    Ok(())
}

/// The lane: every kernel, compared with the committed figures.
pub(crate) fn lane() -> Result<Outcome> {
    measure(&Arguments::default())
}

/// Fetches the kernels; where that cannot work, the lane will say so.
pub(crate) fn fetch() -> Result<()> {
    for kernel in &KERNELS {
        if let Err(error) = debian::image(kernel) {
            run::say(&format!("no Linux {} to test on: {error:#}", kernel.series));
        }
    }
    Ok(())
}

/// Why the lane cannot run here, if so.
pub(crate) fn obstacle() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the emulated machines are x86-64".to_owned());
    }
    if !run::can_be_root() {
        return Some("loading on the running kernel needs root".to_owned());
    }
    KERNELS
        .iter()
        .find_map(|kernel| debian::image(kernel).err())
        .map(|error| format!("{error:#}"))
}

fn measure(arguments: &Arguments) -> Result<Outcome> {
    let smoke = build::smoke()?;
    let object = match &arguments.object {
        Some(object) => object.clone(),
        None => build::object()?,
    };
    let wanted = |series: &str| {
        arguments.kernels.is_empty() || arguments.kernels.iter().any(|name| name == series)
    };
    let guest = guest::Guest {
        smoke: &smoke,
        object: &object,
        figures_only: arguments.figures_only,
    };
    let mut reports = Vec::new();
    for kernel in KERNELS.iter().filter(|kernel| wanted(kernel.series)) {
        run::say(&format!("booting Linux {} under emulation", kernel.series));
        let lines = guest.boot(&debian::image(kernel)?, kernel.series)?;
        reports.push(Report::read(kernel.series, &lines));
    }
    if wanted("running") {
        reports.push(Report::read(&running_series()?, &guest.here()?));
    }
    judge(arguments, &reports)
}

fn judge(arguments: &Arguments, reports: &[Report]) -> Result<Outcome> {
    let path = place::root().join("tests/kernels/verified.txt");
    let mut committed = Figures::load(&path)?;
    let mut outcome = Outcome::default();
    for report in reports {
        print!("{}", report.table());
        report.judge_smoke(&mut outcome);
        if arguments.bless {
            committed.replace(report);
        }
        if arguments.object.is_none() {
            committed.judge(report, &mut outcome);
        }
    }
    if arguments.bless {
        committed.store(&path)?;
    }
    Ok(outcome)
}

/// The running kernel's series, such as 6.12.
fn running_series() -> Result<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("cannot read the running kernel's version")?;
    let mut parts = release.trim().split('.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => Ok(format!("{major}.{minor}")),
        _ => anyhow::bail!(
            "the running kernel's version is `{}`, which names no series",
            release.trim()
        ),
    }
}
