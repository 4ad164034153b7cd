//! The smoke program: `mesh-smoke OBJECT [--figures-only]`. Loads every eBPF program of an object on the running
//! kernel and tells what the verifier had to do; then attaches all of them to a cgroup of its own, and those
//! of packets to an interface of its own, and sends TCP, UDP and packets through a Service. Lines on stdout, each with a word in front: program, pass, fail, end.
//!
//! It stands on the bpf system call alone, so that a kernel which cannot run the agent still shows why.
#![deny(unsafe_code)]

mod cgroup;
mod clsact;
mod object;
mod packet;
mod service;
mod sys;
mod traffic;

use std::{os::fd::OwnedFd, process::ExitCode};

use anyhow::{Context, Result, bail};

use cgroup::Cgroup;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use object::{Loaded, Object};
use service::Maps;

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("smoke: fail the smoke program: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Gives how many checks failed.
fn run() -> Result<u32> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .context("usage: mesh-smoke OBJECT [--figures-only]")?;
    let figures_only = match arguments.next().as_deref() {
        None => false,
        Some("--figures-only") => true,
        Some(other) => bail!("`{other}` is no argument of mesh-smoke"),
    };
    // Before Linux 5.11 maps count against this limit; later ones, and processes that may not raise it, do without.
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).ok();
    let data = std::fs::read(&path).with_context(|| path.clone())?;
    let mut failures = 0;
    let loaded = load(&data, &mut failures)?;
    if !figures_only {
        for (what, result) in smoke(loaded)? {
            failures += tell(&what, result);
        }
    }
    println!("smoke: end");
    Ok(failures)
}

/// Loads everything. A helper that only newer kernels have is behind a switch in the object: on first, and off where
/// that does not load.
fn load(data: &[u8], failures: &mut u32) -> Result<Loaded> {
    let with = Object::open(data, 1)?.load()?;
    let loaded = if with.refusals.is_empty() {
        with
    } else {
        Object::open(data, 0)?.load()?
    };
    for program in &loaded.programs {
        println!(
            "smoke: program {} instructions {} stack {}",
            program.name, program.instructions, program.stack
        );
    }
    for (name, log) in &loaded.refusals {
        let tail: Vec<_> = log.lines().rev().take(30).collect();
        for line in tail.iter().rev() {
            println!("verifier: {line}");
        }
        *failures += tell(
            &format!("program {name} loads"),
            Err(anyhow::anyhow!("the verifier refuses it")),
        );
    }
    Ok(loaded)
}

/// Attaches and uses what was loaded.
fn smoke(loaded: Loaded) -> Result<Vec<(String, Result<()>)>> {
    let cgroup = Cgroup::enter()?;
    let mut links: Vec<OwnedFd> = Vec::new();
    let mut results = Vec::new();
    for program in loaded.programs.iter().filter(|it| !packet::is_packets(it)) {
        let link = sys::link_create(&program.fd, cgroup.directory(), program.kind.attach_type);
        let result = link
            .map(|link| links.push(link))
            .map_err(anyhow::Error::from);
        results.push((format!("program {} attaches", program.name), result));
    }
    results.extend(traffic::all(&Maps::new(&loaded.maps)));
    drop(links);
    cgroup.leave()?;
    results.extend(packet::all(&loaded));
    Ok(results)
}

fn tell(what: &str, result: Result<()>) -> u32 {
    match result {
        Ok(()) => {
            println!("smoke: pass {what}");
            0
        }
        Err(error) => {
            println!("smoke: fail {what}: {error:#}");
            1
        }
    }
}
