//! Which programs the kernel runs at the interfaces of a node, asked of the kernel itself.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd, AsRawFd},
    process::Command,
};

use anyhow::{Context, Result};
use aya::programs::{SchedClassifier, TcAttachType};
use nix::net::if_::if_nameindex;
use serde_json::Value;

use crate::{
    lab::{Node, netns},
    place::Place,
};

/// Programs at one interface: their names in the order in which they run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// For packets that come in by it.
    pub ingress: Vec<String>,
    /// For packets that leave by it.
    pub egress: Vec<String>,
}

impl Attached {
    /// What the agent attaches to a local pod's interface.
    #[must_use]
    pub fn pod() -> Self {
        Self {
            ingress: vec!["from_pod".to_owned()],
            egress: vec!["to_pod".to_owned()],
        }
    }

    /// What the agent attaches to a device.
    #[must_use]
    pub fn device() -> Self {
        Self {
            ingress: vec!["from_device".to_owned()],
            egress: vec!["to_device".to_owned()],
        }
    }

    /// What the agent attaches to a device whose packets have no link header.
    #[must_use]
    pub fn l3_device() -> Self {
        Self {
            ingress: vec!["from_l3_device".to_owned()],
            egress: vec!["to_l3_device".to_owned()],
        }
    }

    /// At every interface of a place that has any, by name.
    pub fn all(place: &Place) -> Result<BTreeMap<String, Self>> {
        netns::within(place.netns(), || {
            let mut all = BTreeMap::new();
            for interface in &if_nameindex()? {
                let name = interface.name().to_string_lossy().into_owned();
                // One may go while it is asked about.
                let found = Self {
                    ingress: programs(&name, TcAttachType::Ingress).unwrap_or_default(),
                    egress: programs(&name, TcAttachType::Egress).unwrap_or_default(),
                };
                if found != Self::default() {
                    all.insert(name, found);
                }
            }
            Ok(all)
        })
    }
}

fn programs(interface: &str, direction: TcAttachType) -> Result<Vec<String>> {
    let (_, programs) = SchedClassifier::query_tcx(interface, direction)?;
    let names = programs
        .iter()
        .map(|it| it.name_as_str().map(str::to_owned));
    Ok(names.flatten().collect())
}

/// How often each program at the interfaces of a place has run while the kernel kept statistics, and for how many
/// nanoseconds, by name.
pub fn packet_program_runs(place: &Place) -> Result<BTreeMap<String, (u64, u64)>> {
    let programs = netns::within(place.netns(), || {
        let mut programs = BTreeMap::new();
        for interface in &if_nameindex()? {
            let name = interface.name().to_string_lossy().into_owned();
            for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
                let Ok((_, found)) = SchedClassifier::query_tcx(&name, direction) else {
                    continue;
                };
                // One program serves many interfaces.
                programs.extend(found.into_iter().map(|it| (it.id(), it)));
            }
        }
        Ok(programs)
    })?;
    let mut runs = BTreeMap::new();
    for program in programs.values() {
        let fd = program.fd()?;
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
        let name = program.name_as_str().unwrap_or_default().to_owned();
        let sum: &mut (u64, u64) = runs.entry(name).or_default();
        sum.0 += figure(&text, "run_cnt:")?;
        sum.1 += figure(&text, "run_time_ns:")?;
    }
    Ok(runs)
}

fn figure(text: &str, key: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    let value = value.with_context(|| format!("the kernel shows no {key}"))?;
    Ok(value.trim().parse()?)
}

/// The names of the links at interfaces that an agent on a node has pinned.
pub fn pinned_links(node: &Node) -> Result<Vec<String>> {
    let names = fs::read_dir(node.bpffs().join("links"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.retain(|name| name.contains('-'));
    names.sort_unstable();
    Ok(names)
}

/// The kernel's numbers of these links, by their names; bpftool says so.
pub fn link_ids(node: &Node) -> Result<BTreeMap<String, u64>> {
    let mut ids = BTreeMap::new();
    for name in pinned_links(node)? {
        let pin = node.bpffs().join("links").join(&name);
        let mut bpftool = Command::new("bpftool");
        bpftool.args(["-j", "link", "show", "pinned"]).arg(pin);
        let output = bpftool.output().context("bpftool is not installed")?;
        let link: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("bpftool of {name}: {output:?}"))?;
        let id = link["id"].as_u64();
        ids.insert(name, id.with_context(|| link.to_string())?);
    }
    Ok(ids)
}
