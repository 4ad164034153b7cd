//! How a test runs: in a lab of its own, with the logs shown if it fails, skipped with a reason where it cannot run.

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    agent::agent_binary,
    cluster,
    control_plane::control_plane_binary,
    lab::{Lab, cgroup, source_is_kube},
    place::traffic_binary,
};

/// How long an effect may take before it counts as missing. It bounds a failing test and measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a test needs beside root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The lab alone.
    Lab,
    /// The agent's binary too.
    Agent,
    /// The same, and what it tests is about files, or about what no API server would take, or about nodes that the lab's
    /// API server cannot be reached from (it has an IPv4 address): there is nothing to test where objects come from one.
    Files,
    /// And a second build of it, with another layout: MESH_AGENT_NEXT_BIN.
    NextAgent,
    /// The agent and the control plane's binary: MESH_CONTROL_PLANE_BIN.
    ControlPlane,
    /// What a real cluster is made of, the agent's image included: MESH_CLUSTER_PROGRAMS and MESH_CLUSTER_IMAGES too.
    Cluster,
}

/// Runs a test in a lab of its own. The lab is removed in any case.
pub fn test(title: &str, needs: Needs, body: impl FnOnce(&mut Lab) -> Result<()>) -> Result<()> {
    if needs == Needs::Files && source_is_kube() {
        return Ok(());
    }
    if let Err(reason) = check(needs) {
        if std::env::var("CI").is_ok_and(|value| value == "true") {
            bail!("{title} cannot run: {reason:#}");
        }
        // Not by a print macro: the test runner would keep it to itself.
        writeln!(std::io::stderr(), "SKIPPED {title}: {reason:#}")?;
        return Ok(());
    }
    let mut lab = Lab::new(title)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&mut lab)));
    if !matches!(outcome, Ok(Ok(()))) {
        eprintln!("{}", lab.logs());
    }
    let closed = lab.close();
    match outcome {
        Ok(outcome) => outcome.and(closed),
        Err(payload) => resume_unwind(payload),
    }
}

fn check(needs: Needs) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("it needs root");
    }
    cgroup::mount_point()?;
    traffic_binary()?;
    let ip = std::process::Command::new("ip").arg("-Version").output();
    ip.context("it needs ip: install iproute2")?;
    match needs {
        Needs::Lab => {}
        Needs::Agent | Needs::Files => drop(agent_binary()?),
        Needs::ControlPlane => {
            agent_binary()?;
            control_plane_binary()?;
        }
        Needs::Cluster => {
            control_plane_binary()?;
            cluster::programs()?;
            cluster::images()?;
        }
        Needs::NextAgent => {
            agent_binary()?;
            std::env::var("MESH_AGENT_NEXT_BIN").context(
                "MESH_AGENT_NEXT_BIN names no agent: build one with --features layout-next",
            )?;
        }
    }
    Ok(())
}

/// Tries until it goes well; fails with the last error when `PATIENCE` is over.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    const PAUSE: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("still not so: {what}"));
            }
            Err(_) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
}
