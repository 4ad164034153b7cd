//! A lab: a switch with nodes on it, each a network namespace and a cgroup, and pods behind the nodes.
//!
//! The host's own network is not touched: the switch lives in a namespace too. Dropping the lab removes everything.

mod address;
mod cable;
pub(crate) mod cgroup;
mod ip;
mod mounts;
mod name;
pub(crate) mod netns;
mod node;
mod pod;
mod sweep;
mod tunnel;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result, ensure};

pub use address::{Address, Families};
pub use node::Node;
pub use pod::{Machine, Pod};
pub use sweep::{remove_run, sweep};
pub use tunnel::Tunnel;

use crate::{
    control_plane::{ControlPlane, ControlPlaneOptions},
    manifest::Source,
};

/// What all parts of one lab share.
#[derive(Debug)]
pub(crate) struct Run {
    name: String,
    files: PathBuf,
    cgroup: PathBuf,
    bpffs: PathBuf,
    logs: AtomicU32,
    /// How agents reach the lab's API server, where there is one.
    kubeconfig: OnceLock<PathBuf>,
}

impl Run {
    pub(crate) fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.get().map(PathBuf::as_path)
    }

    /// A path for a log, unlike all before.
    pub(crate) fn log(&self, title: &str) -> PathBuf {
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        self.files.join(format!("logs/{number:03}-{title}.log"))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files.join(name)
    }

    fn netns(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }
}

/// A switch, nodes and pods.
#[derive(Debug)]
pub struct Lab {
    run: Arc<Run>,
    nodes: Vec<Node>,
    source: Source,
    /// On a node of its own, the first.
    control_plane: Option<ControlPlane>,
    kept: bool,
}

/// With this variable set to `kube`, agents get their objects from a real API server: every test that does not depend on
/// files is a test of that source too.
const SOURCE: &str = "MESH_LAB_SOURCE";

impl Lab {
    /// An empty lab. The title helps people who look at what it makes. What earlier runs of dead processes left
    /// behind is removed first, once per process.
    pub fn new(title: &str) -> Result<Self> {
        static SWEPT: OnceLock<Result<(), String>> = OnceLock::new();
        SWEPT
            .get_or_init(|| sweep().map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(anyhow::Error::msg)?;
        let run = Arc::new(new_run(title)?);
        let mut lab = Self {
            source: Source::new(run.files.join("manifests")),
            run,
            nodes: Vec::new(),
            control_plane: None,
            kept: false,
        };
        lab.make()?;
        if source_is_kube() {
            lab.use_control_plane()?;
        }
        Ok(lab)
    }

    /// From now on agents get their objects from a real API server, on a node of its own.
    pub fn use_control_plane(&mut self) -> Result<()> {
        self.use_control_plane_with(|options| options)
    }

    /// The same, with options of choice, unless there is one.
    pub fn use_control_plane_with(
        &mut self,
        options: impl FnOnce(ControlPlaneOptions) -> ControlPlaneOptions,
    ) -> Result<()> {
        if self.control_plane.is_some() {
            return Ok(());
        }
        let master = self.node("master", Families::Dual)?;
        let options = options(ControlPlaneOptions::on(&master)?);
        let control_plane = ControlPlane::start(&options)?;
        let kubeconfig = control_plane.kubeconfig().to_owned();
        self.source = Source::api(self.manifests(), control_plane.client()?);
        self.control_plane = Some(control_plane);
        // It is set here alone.
        self.run.kubeconfig.get_or_init(|| kubeconfig);
        Ok(())
    }

    /// The control plane, where agents get their objects from one.
    pub fn control_plane(&mut self) -> Option<&mut ControlPlane> {
        self.control_plane.as_mut()
    }

    fn make(&self) -> Result<()> {
        fs::create_dir_all(self.run.files.join("logs"))
            .and_then(|()| fs::create_dir(self.manifests()))
            .and_then(|()| fs::create_dir(&self.run.bpffs))
            .with_context(|| format!("cannot make the directories of {}", self.run.name))?;
        cgroup::make(&self.run.cgroup)?;
        let switch = self.run.netns("switch");
        ip::batch(&[format!("netns add {switch}")])?;
        netns::within(&netns::path(&switch), || {
            ip::batch(&[
                // Without a querier, snooping would lose neighbour solicitations.
                "link add br0 type bridge mcast_snooping 0".to_owned(),
                "link set br0 up".to_owned(),
            ])
        })
    }

    /// The name that everything of this lab begins with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.run.name
    }

    /// A directory for files of the lab's user; it goes with the lab.
    #[must_use]
    pub fn files(&self) -> &Path {
        &self.run.files
    }

    /// The directory that every agent of this lab reads.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.run.files.join("manifests")
    }

    /// Where agents get their objects from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source.clone()
    }

    /// A node on the switch, with routes from and to the pods of those before it.
    pub fn node(&mut self, name: &str, families: Families) -> Result<Node> {
        let index = u8::try_from(self.nodes.len() + 1)?;
        ensure!(index <= address::MOST_NODES, "a lab has at most 64 nodes");
        let node = Node::make(&self.run, name, index, families, &self.nodes)?;
        self.nodes.push(node.clone());
        if self.control_plane.is_some() {
            // The controllers make no endpoint of a Pod whose node they do not know.
            let manifest = crate::manifest::node(&node);
            self.source
                .write(&format!("node-{name}.json"), &[manifest])?;
        }
        Ok(node)
    }

    /// The nodes there are.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Leaves everything up when this process ends, until `remove_run` is called with the name returned. Processes
    /// stay only if they were detached.
    pub fn keep(mut self) -> Result<String> {
        fs::write(self.run.files.join(sweep::KEEP), "")?;
        self.kept = true;
        Ok(self.run.name.clone())
    }

    /// Removes everything and says what could not be removed.
    pub fn close(mut self) -> Result<()> {
        self.kept = true;
        self.control_plane = None;
        remove_run(&self.run.name)
    }

    /// The logs of the processes, as far as they say anything: the last lines of each.
    #[must_use]
    pub fn logs(&self) -> String {
        const LINES: usize = 60;
        let directory = self.run.files.join("logs");
        let mut text = String::new();
        for name in entries(&directory, "") {
            let log = fs::read_to_string(directory.join(&name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            if lines.is_empty() {
                continue;
            }
            let tail = lines.len().saturating_sub(LINES);
            text.push_str(&format!("--- {name}\n{}\n", lines[tail..].join("\n")));
        }
        text
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.control_plane = None;
        if let Err(error) = remove_run(&self.run.name) {
            eprintln!("{}: {error:#}", self.run.name);
        }
    }
}

fn new_run(title: &str) -> Result<Run> {
    let name = name::fresh(title)?;
    Ok(Run {
        files: files_directory().join(&name),
        cgroup: cgroup::mount_point()?.join(&name),
        bpffs: mounts::bpffs()?.join(&name),
        logs: AtomicU32::new(0),
        kubeconfig: OnceLock::new(),
        name,
    })
}

fn files_directory() -> PathBuf {
    std::env::temp_dir()
}

/// Whether agents get their objects from an API server.
pub(crate) fn source_is_kube() -> bool {
    std::env::var(SOURCE).is_ok_and(|source| source == "kube")
}

/// The names in a directory that begin with a prefix, in order; none if it cannot be read.
fn entries(directory: &Path, prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

pub(crate) fn directories(path: &Path) -> Vec<PathBuf> {
    let paths = entries(path, "").into_iter().map(|name| path.join(name));
    paths.filter(|path| path.is_dir()).collect()
}

/// Removing what is not there is done.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
