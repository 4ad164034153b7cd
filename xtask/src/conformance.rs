//! `conformance`: Kubernetes' own end-to-end tests of networks, with the agent's DaemonSet in kube-proxy's place on three
//! real nodes. A line for each test as it ends; docs/conformance.md keeps what became of all, and why others do not run.

mod document;
mod image;
mod passes;
mod programs;
mod progress;
mod report;
mod stage;
mod suite;
mod tools;

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Cluster, Lab};
use nix::sys::signal::SigSet;

use crate::{build, cluster, control_plane, demo::hold_signals, place, run, setup};
use document::Outcome;
use passes::{NODES, PASSES};
pub(crate) use programs::lint;
use report::{Spec, State};
use suite::Suite;

/// The variable that the lab finds images by: where it is set, everything is built.
const BUILT: &str = "MESH_CLUSTER_IMAGES";
const PAGE: &str = "docs/conformance.md";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the tests whose whole names match this regular expression; the page is not written
    #[arg(long, value_name = "REGEX")]
    focus: Option<String>,
    /// And not those that match this one
    #[arg(long, value_name = "REGEX", requires = "focus")]
    skip: Option<String>,
    /// How many tests at a time
    #[arg(long, default_value_t = 4)]
    processes: usize,
    /// On how many nodes, in three zones; some tests want two in each
    #[arg(long, requires = "focus", default_value_t = NODES, value_parser = clap::value_parser!(u8).range(1..=6))]
    nodes: u8,
}

/// The verb.
pub(crate) fn conformance(arguments: &Arguments) -> Result<()> {
    run::say(
        "Kubernetes' end-to-end tests: about twenty minutes, and a quarter of an hour of building before the first run",
    );
    setup::ensure(setup::Need::Cluster)?;
    if let Some(why) = cluster::obstacle() {
        anyhow::bail!("there can be no cluster: {why}");
    }
    if std::env::var_os(BUILT).is_none() || !run::is_root() {
        return again_with_everything();
    }
    mesh_lab::choose_traffic_binary(build::traffic()?);
    let programs = programs::programs()?;
    let names = programs::image_names(&programs)?;
    let dns = cluster::programs()?.join("coredns");
    let images = image::archive(&programs, &dns, &tools::tree()?, &names)?;
    let theatre = Theatre {
        programs,
        images,
        processes: arguments.processes,
        lab: Arc::default(),
    };
    clean_up_on(hold_signals()?, Arc::clone(&theatre.lab))?;
    let failed = play(arguments, &theatre)?;
    ensure!(failed == 0, "{failed} tests failed");
    Ok(())
}

/// What is the same for all nodes that tests run on.
struct Theatre {
    programs: PathBuf,
    /// The archive of the tests' images.
    images: PathBuf,
    processes: usize,
    /// The name of what stands now.
    lab: Arc<Mutex<Option<String>>>,
}

impl Theatre {
    /// So many nodes of their own for some tests; nothing of them is left afterwards.
    fn with_nodes<T>(&self, nodes: u8, work: impl FnOnce(&Suite<'_>) -> Result<T>) -> Result<T> {
        let mut lab = Lab::new("conformance")?;
        *lock(&self.lab) = Some(lab.name().to_owned());
        let outcome = stage::start(&mut lab, nodes.into(), &self.images).and_then(|cluster| {
            work(&Suite {
                cluster: &cluster,
                programs: &self.programs,
                output: place::target().join("conformance"),
                processes: self.processes,
            })
        });
        lab.close()?;
        *lock(&self.lab) = None;
        outcome
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whoever interrupts it finds nothing of it left.
fn clean_up_on(signals: SigSet, lab: Arc<Mutex<Option<String>>>) -> Result<()> {
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || {
        if signals.wait().is_err() {
            return;
        }
        if let Some(lab) = &*lock(&lab)
            && let Err(error) = mesh_lab::remove_run(lab)
        {
            eprintln!("{lab}: {error:#}");
        }
        std::process::exit(130);
    })?;
    Ok(())
}

/// The lab finds what it is made of by variables, which a process cannot safely give to itself; and it needs root. So
/// this program starts anew when everything is built.
fn again_with_everything() -> Result<()> {
    let images = cluster::images_of_one_agent()?;
    programs::programs()?;
    tools::tree()?;
    let error = run::as_root(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env("MESH_CONTROL_PLANE_BIN", control_plane::binary()?)
        .env("MESH_CLUSTER_PROGRAMS", cluster::programs()?)
        .env("MESH_AGENT_CACHE", place::cache()?)
        .env(BUILT, images)
        .exec();
    Err(error).context("cannot start xtask anew")
}

/// Runs what was asked for; gives how many tests failed.
fn play(arguments: &Arguments, theatre: &Theatre) -> Result<usize> {
    if let Some(focus) = &arguments.focus {
        let skip = arguments.skip.as_deref().unwrap_or_default();
        let specs = theatre.with_nodes(arguments.nodes, |suite| suite.run("focus", focus, skip))?;
        return Ok(told(&specs));
    }
    let mut outcomes = Vec::new();
    let mut of_what = String::new();
    for passes in PASSES.chunk_by(|one, next| one.nodes == next.nodes) {
        theatre.with_nodes(passes[0].nodes, |suite| {
            of_what = versions(suite.cluster)?;
            for pass in passes {
                run::say(&format!("{}: {}", pass.name, pass.title));
                let specs = suite.run(pass.name, pass.focus, pass.skip)?;
                outcomes.push(Outcome { pass: *pass, specs });
            }
            Ok(())
        })?;
    }
    let failed = outcomes.iter().map(|it| told(&it.specs)).sum();
    let page = document::page(&of_what, &outcomes)?;
    let path = place::root().join(PAGE);
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(failed)
}

/// Says what failed, and the sum; gives how many failed.
fn told(specs: &[Spec]) -> usize {
    let count = |state| specs.iter().filter(|spec| spec.state == state).count();
    for spec in specs.iter().filter(|spec| spec.state == State::Failed) {
        println!("FAILED {}: {}", spec.name, spec.message);
    }
    let failed = count(State::Failed);
    let (passed, skipped) = (count(State::Passed), count(State::Skipped));
    println!("{passed} passed, {failed} failed, {skipped} skipped themselves");
    failed
}

fn versions(cluster: &Cluster) -> Result<String> {
    let kernel = run::capture(std::process::Command::new("uname").arg("-r"))?;
    let today = jiff::Zoned::now().date();
    let agent = stage::agent_version(cluster)?;
    Ok(format!(
        "Kubernetes {}, {agent}, Linux {}, {NODES} nodes of both families; {today}.",
        control_plane::VERSION,
        kernel.trim(),
    ))
}
