//! `demo`: the main job on real input. Two nodes with pods, an agent on each, one Service spread over both; scaled by
//! editing a manifest; an agent killed under load. Leaves no trace unless asked to.

mod stage;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Agent, AgentOptions, Call, eventually, traffic::Report};

use crate::{build, run, setup};
pub(crate) use stage::hold_signals;
use stage::{Manifest, Stage};

/// web's ClusterIP, as examples/demo/service.yaml has it.
const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave nodes, pods and agents up, to try things; `cargo xtask demo --clean NAME` takes them down
    #[arg(long)]
    keep: bool,
    /// Take down what an earlier `demo --keep` left up
    #[arg(long, value_name = "NAME", conflicts_with = "keep")]
    clean: Option<String>,
}

/// The verb.
pub(crate) fn demo(arguments: &Arguments) -> Result<()> {
    if let Some(name) = &arguments.clean {
        ensure!(
            run::is_root(),
            "namespaces can only be removed by root: run this as root"
        );
        ensure!(
            name.starts_with(stage::RUN_PREFIX),
            "{name} is not the name of a demo: it begins with {}",
            stage::RUN_PREFIX
        );
        mesh_lab::remove_run(name)?;
        println!("{name} is gone.");
        return Ok(());
    }
    setup::ensure(setup::Need::Lab)?;
    let agent = build::agent()?;
    mesh_lab::choose_traffic_binary(build::traffic()?);
    if !run::is_root() {
        return again_as_root(arguments);
    }
    let signals = hold_signals()?;
    let stage = Stage::build(&agent)?;
    stage.clean_up_on(signals)?;
    // The play may fail half way: the manifest is put back and the nodes are taken down either way.
    let outcome = play(&stage);
    if outcome.is_err() {
        eprintln!("{}", stage.logs());
    }
    match outcome {
        Ok(agents) if arguments.keep => stage.keep(agents),
        Ok(agents) => {
            drop(agents);
            stage.close()?;
            println!(
                "\nEverything is taken down again: no namespace, cgroup, program, map or file is left."
            );
            println!(
                "Next: `cargo xtask demo --keep` leaves it up to try things; `cargo xtask test` proves the rest."
            );
            Ok(())
        }
        Err(error) => {
            stage.close()?;
            Err(error)
        }
    }
}

/// Namespaces need root; what has been built stays built.
fn again_as_root(arguments: &Arguments) -> Result<()> {
    let mut command: Command = run::as_root(std::env::current_exe()?);
    command.arg("demo");
    if arguments.keep {
        command.arg("--keep");
    }
    let status = command
        .status()
        .context("cannot become root: run this as root")?;
    std::process::exit(status.code().unwrap_or(1));
}

fn play(stage: &Stage) -> Result<Vec<Agent>> {
    title("1. An agent on each node, reading examples/demo");
    let mut agents = stage.start_agents()?;
    println!("{}", agents[0].cli(&["service", "list"])?.ok()?.stdout);

    title("2. Clients on both nodes call web at 10.96.0.10:80");
    spread(stage, &["web-1", "web-2", "web-3"])?;

    title("3. Scale up: web-4 becomes Ready in examples/demo/pods.yaml");
    let manifest = Manifest::open()?;
    manifest.make_ready("web-4")?;
    eventually("web-4 serves", || {
        let report = call(stage, 40)?;
        ensure!(report.by("web-4") > 0, "web-4 has not answered yet");
        Ok(())
    })?;
    spread(stage, &["web-1", "web-2", "web-3", "web-4"])?;

    title("4. Kill the agent of node-a while clients go on");
    kill_under_load(stage, &mut agents)?;

    title("5. Scale back: the manifest as it was");
    drop(manifest);
    eventually("web-4 gets nothing new", || {
        let report = call(stage, 40)?;
        ensure!(report.by("web-4") == 0, "web-4 still answers");
        Ok(())
    })?;
    spread(stage, &["web-1", "web-2", "web-3"])?;
    Ok(agents)
}

fn title(text: &str) {
    println!("\n{text}");
}

fn call(stage: &Stage, count: u64) -> Result<Report> {
    stage.clients[0]
        .place()
        .call(&Call::connect(WEB).count(count))
}

/// Two thousand connections from each client, as a bar per pod.
fn spread(stage: &Stage, expected: &[&str]) -> Result<()> {
    const CONNECTIONS: u64 = 2000;
    for client in &stage.clients {
        let report = client
            .place()
            .call(&Call::connect(WEB).count(CONNECTIONS))?;
        ensure!(
            report.is_clean(),
            "some connections failed: {:?}",
            report.errors
        );
        println!("   from a pod on {}:", client.node());
        for (pod, count) in &report.backends {
            let bar = "#".repeat(usize::try_from(count * 40 / CONNECTIONS)?);
            println!("     {pod} on {}  {count:>5}  {bar}", stage.node_of(pod));
        }
        let answered: Vec<&str> = report.backends.keys().map(String::as_str).collect();
        ensure!(
            answered == expected,
            "{answered:?} answered, not {expected:?}"
        );
    }
    Ok(())
}

fn kill_under_load(stage: &Stage, agents: &mut [Agent]) -> Result<()> {
    let load = stage.clients[0]
        .place()
        .load(&Call::connect(WEB).rate(2000))?;
    std::thread::sleep(Duration::from_millis(500));
    agents[0].kill()?;
    println!("   killed with SIGKILL; the kernel goes on alone");
    std::thread::sleep(Duration::from_secs(1));
    agents[0] = stage.nodes[0].start_agent(&AgentOptions::binary(&stage.agent))?;
    agents[0].wait_ready()?;
    println!("   a new agent has taken over what the old one left in the kernel");
    std::thread::sleep(Duration::from_millis(500));
    let report = load.stop()?;
    println!(
        "   {} connections in that time, {} failed",
        report.attempts,
        report.attempts - report.answered
    );
    ensure!(
        report.is_clean(),
        "connections were lost: {:?}",
        report.errors
    );
    Ok(())
}
