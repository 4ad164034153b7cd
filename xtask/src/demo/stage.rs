//! What the demo plays on: nodes, pods, servers and agents, and the manifest that it edits and puts back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use mesh_lab::{Agent, AgentOptions, Families, Lab, Node, Pod, Process};
use nix::sys::signal::{SigSet, Signal};

use crate::{place, run};

/// How the names of the demo's runs begin.
pub(super) const RUN_PREFIX: &str = "mesh-lab-";

const PORT: u16 = 8080;

pub(super) struct Stage {
    lab: Lab,
    pub(super) agent: PathBuf,
    pub(super) nodes: Vec<Node>,
    pub(super) clients: Vec<Pod>,
    pods: Vec<Pod>,
    servers: Vec<Process>,
}

impl Stage {
    pub(super) fn build(agent: &Path) -> Result<Self> {
        run::say("two nodes with two pods of web and a client each");
        let mut lab = Lab::new("demo")?;
        read_examples(&lab)?;
        let mut stage = Self {
            nodes: vec![
                lab.node("node-a", Families::Dual)?,
                lab.node("node-b", Families::Dual)?,
            ],
            lab,
            agent: agent.to_owned(),
            clients: Vec::new(),
            pods: Vec::new(),
            servers: Vec::new(),
        };
        for (node, names) in stage
            .nodes
            .clone()
            .iter()
            .zip([["web-1", "web-2"], ["web-3", "web-4"]])
        {
            for name in names {
                let pod = node.pod(name)?;
                stage.servers.push(pod.place().serve(name, &[PORT])?);
                stage.pods.push(pod);
            }
            stage.clients.push(node.pod("client")?);
        }
        Ok(stage)
    }

    /// Whoever interrupts the demo finds everything as it was, too.
    pub(super) fn clean_up_on(&self, signals: SigSet) -> Result<()> {
        let (name, manifest) = (self.lab.name().to_owned(), Manifest::open()?);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if signals.wait().is_err() {
                    return;
                }
                drop(manifest);
                if let Err(error) = mesh_lab::remove_run(&name) {
                    eprintln!("{name}: {error:#}");
                }
                std::process::exit(130);
            })?;
        Ok(())
    }

    pub(super) fn start_agents(&self) -> Result<Vec<Agent>> {
        self.nodes
            .iter()
            .map(|node| node.agent_with(&AgentOptions::binary(&self.agent)))
            .collect()
    }

    pub(super) fn node_of(&self, pod: &str) -> &str {
        self.pods
            .iter()
            .find(|it| it.name() == pod)
            .map_or("?", Pod::node)
    }

    pub(super) fn logs(&self) -> String {
        self.lab.logs()
    }

    pub(super) fn close(self) -> Result<()> {
        drop(self.servers);
        self.lab.close()
    }

    /// Leaves everything up and says what to try.
    pub(super) fn keep(self, agents: Vec<Agent>) -> Result<()> {
        let (agent, node, client) = (&self.agent, &self.nodes[0], &self.clients[0]);
        let directories = format!(
            "--bpffs {} --run-dir {}",
            node.bpffs().display(),
            node.run_dir().display()
        );
        println!("\nEverything is still up. As root, try:");
        println!("  edit examples/demo/pods.yaml: another Ready, another spread, at once");
        println!("  {} service list {directories}", agent.display());
        println!(
            "  {} service explain demo/web {directories}",
            agent.display()
        );
        println!(
            "  {} trace --to 10.96.0.10:80 {directories}",
            agent.display()
        );
        println!("  {} bpf backends {directories}", agent.display());
        println!(
            "  {} connect --to 10.96.0.10:80 --count 1000",
            in_pod(client)?
        );
        for agent in agents {
            agent.detach();
        }
        for server in self.servers {
            server.detach();
        }
        let name = self.lab.keep()?;
        println!("and when you have seen enough: cargo xtask demo --clean {name}");
        Ok(())
    }
}

/// Keeps SIGINT and SIGTERM for the thread that waits for them. Programs that are started do not inherit this.
pub(crate) fn hold_signals() -> Result<SigSet> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    Ok(signals)
}

/// The traffic tool's command line up to the verb, in a pod.
fn in_pod(pod: &Pod) -> Result<String> {
    let traffic = mesh_lab::traffic_binary()?;
    let place = pod.place();
    Ok(format!(
        "{} in --netns {} --cgroup {} -- {}",
        traffic.display(),
        place.netns().display(),
        place.cgroup().display(),
        traffic.display()
    ))
}

/// The agents read the examples themselves, so that whoever edits them sees what comes of it.
fn read_examples(lab: &Lab) -> Result<()> {
    let directory = lab.manifests();
    fs::remove_dir(&directory)
        .and_then(|()| std::os::unix::fs::symlink(examples(), &directory))
        .with_context(|| format!("cannot make {} a link to the examples", directory.display()))
}

fn examples() -> PathBuf {
    place::root().join("examples/demo")
}

/// examples/demo/pods.yaml. Dropping it puts back what it was.
pub(super) struct Manifest {
    path: PathBuf,
    original: String,
}

impl Manifest {
    pub(super) fn open() -> Result<Self> {
        let path = examples().join("pods.yaml");
        let original =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path, original })
    }

    /// Sets the Ready condition of a pod, as a user would with an editor.
    pub(super) fn make_ready(&self, pod: &str) -> Result<()> {
        let edited = with_ready(&self.original, pod)
            .with_context(|| format!("{} has no {pod}", self.path.display()))?;
        fs::write(&self.path, edited)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for Manifest {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.original) {
            eprintln!("cannot put back {}: {error}", self.path.display());
        }
    }
}

/// The documents of one file, with the Ready condition of one pod set to True.
fn with_ready(documents: &str, pod: &str) -> Option<String> {
    let begin = documents.find(&format!("name: {pod}\n"))?;
    let (before, after) = documents.split_at(begin);
    let condition = after.find("- type: Ready")?;
    let (middle, rest) = after.split_at(condition);
    Some(format!(
        "{before}{middle}{}",
        rest.replacen("status: \"False\"", "status: \"True\"", 1)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_has_one_pod_to_make_ready() {
        let original = Manifest::open().unwrap().original.clone();
        let edited = with_ready(&original, "web-4").unwrap();
        assert_eq!(original.matches("status: \"False\"").count(), 1);
        assert_eq!(edited.matches("status: \"False\"").count(), 0);
    }
}
