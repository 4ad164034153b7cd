//! This host, as the commands see it: the daemon, the probes, the pinned maps, the cleanup.

use std::path::{Path, PathBuf};

use crate::{
    admin::run_dir,
    agent,
    cli::{CheckTarget, Fault, Host},
    config::{Directories, RunConfig},
    conntrack_timeouts,
    datapath::{self, DatapathError, Options, Reader, Sizes, probe},
    leftovers,
    snat_ports::Ports,
    telemetry::{
        dump::{Live, Most},
        log::LogHandle,
        view::{CheckView, RemovedView},
    },
};

/// The kernel that this process runs on.
#[derive(Clone, Copy, Debug)]
pub struct KernelHost;

impl Host for KernelHost {
    fn run(&self, config: RunConfig, log: LogHandle) -> Result<(), Fault> {
        let options = options(
            &config.directories,
            config.cgroup.as_deref(),
            Sizes::from(&config.capacities),
        );
        let checks = probe::all(&options);
        let mut refusals = checks.iter().filter(|check| check.refuses(config.force));
        if let Some(first) = refusals.next() {
            tracing::error!("{first}");
            for other in refusals {
                tracing::error!("{other}");
            }
            return Err(Fault {
                code: first.code.code.to_owned(),
                what: format!("{}: {}", first.code.name, first.what),
                fix: first.fix().to_owned(),
            });
        }
        for check in checks
            .iter()
            .filter(|check| check.level == probe::Level::Warning)
        {
            tracing::warn!("{check}");
        }
        agent::run(&config, options.cgroup, log).map_err(Fault::of)
    }

    fn check(&self, target: &CheckTarget<'_>) -> Vec<CheckView> {
        let options = options(target.directories, target.cgroup, Sizes::default());
        probe::all(&options)
            .iter()
            .map(probe::CheckResult::view)
            .collect()
    }

    fn live(&self, directories: &Directories, with_flows: bool) -> Result<Live, Fault> {
        live(directories, with_flows).map_err(Fault::of)
    }

    fn clean_kube_proxy(&self, dry_run: bool, force: bool) -> Result<Vec<RemovedView>, Fault> {
        leftovers::clean(dry_run, force).map_err(Fault::of)
    }

    fn cleanup(&self, directories: &Directories, dry_run: bool) -> Result<Vec<RemovedView>, Fault> {
        // Before Linux 6.6 programs at interfaces hang on filters, which are no pins.
        let filters = datapath::tc::remove_filters(dry_run).map_err(|error| Fault {
            code: String::new(),
            what: format!("the filters at interfaces cannot be removed: {error}"),
            fix: "run it as root".to_owned(),
        })?;
        let filters = filters.into_iter().map(|name| RemovedView {
            what: "filter".to_owned(),
            name,
        });
        // Before the file goes that says what they were.
        let timeouts = conntrack_timeouts::restore(&directories.run_dir, dry_run);
        let timeouts = timeouts.into_iter().map(|name| RemovedView {
            what: "timeout".to_owned(),
            name,
        });
        let keepers = leftovers::clean_keepers(dry_run).map_err(Fault::of)?;
        let removed = datapath::cleanup(
            &directories.bpffs,
            &directories.run_dir,
            &run_dir::FILES,
            dry_run,
        )
        .map_err(Fault::of)?;
        let kind = |path: &Path| match path
            .parent()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str())
        {
            Some("links") => "link",
            Some("programs") => "program",
            _ if path == directories.bpffs || path == directories.run_dir => "directory",
            _ if path.starts_with(&directories.run_dir) => "file",
            _ if path.ends_with("links") || path.ends_with("programs") => "directory",
            _ => "map",
        };
        let view = |path: PathBuf| RemovedView {
            what: kind(&path).to_owned(),
            name: path.display().to_string(),
        };
        let removed = removed.into_iter().map(view);
        Ok(filters
            .chain(timeouts)
            .chain(keepers)
            .chain(removed)
            .collect())
    }
}

fn live(directories: &Directories, with_flows: bool) -> Result<Live, DatapathError> {
    let reader = Reader::of_pins(&directories.bpffs);
    let entries = |count| usize::try_from(count).unwrap_or(usize::MAX);
    let mut flows = Vec::new();
    let mut most = Most {
        sockets: entries(reader.capacity("sockets")?),
        ..Most::default()
    };
    if with_flows {
        most.flows = entries(reader.confirmed_capacity()?);
        reader.flows(&mut |key, value, opening| flows.push((key, value, opening)))?;
    }
    Ok(Live {
        tables: reader.tables()?,
        affinity: reader.affinity()?,
        peers: reader.peers()?,
        sockets: reader.sockets()?,
        flows,
        clients: reader.clients()?,
        learned_clients: reader.learned_clients()?,
        interfaces: reader.interfaces()?,
        foreign: datapath::left_to_others(&directories.bpffs),
        counters: reader.counters()?,
        ports: Ports::noted(&directories.run_dir),
        most,
        now: datapath::monotonic_nanoseconds(),
    })
}

/// What a datapath would be made of: the cgroup2 directory that was named, or the mount.
fn options(directories: &Directories, cgroup: Option<&Path>, sizes: Sizes) -> Options {
    let mount = || probe::cgroup_mount().unwrap_or_else(|| PathBuf::from("/sys/fs/cgroup"));
    Options {
        cgroup: cgroup.map_or_else(mount, Path::to_owned),
        bpffs: directories.bpffs.clone(),
        sizes,
        ports: Ports::default(),
    }
}
