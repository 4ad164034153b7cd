//! The settings of `run`: what the flags said, checked. Each section checks itself, and each error has a code, names the
//! flag, says why, and what to do.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use crate::{
    cli::args::{CapacityArgs, HousekeepingArgs, RunArgs},
    conntrack_timeouts::Timeouts,
    model::NodePortAddresses,
    telemetry::log::{Format, Level},
};
use kube_proxy::KubeProxyFile;

mod kube_proxy;
mod port_range;

pub use kube_proxy::FileError;
pub use port_range::PortRange;

/// Why the settings cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The flag belongs to another source.
    #[error(
        "MESH102 {flag}: it is for --source kube, and the source is {source_given}; leave it out"
    )]
    NotForSource {
        /// The flag.
        flag: &'static str,
        /// The source.
        source_given: String,
    },
    /// A path that would mean something else in another working directory, or everything.
    #[error("MESH103 {flag} {path:?}: it must be an absolute path below /; write all of it")]
    Path {
        /// The flag.
        flag: &'static str,
        /// What was given.
        path: PathBuf,
    },
    /// Two directories that must not be the same.
    #[error(
        "MESH104 --run-dir {path:?}: it is --bpffs too, and a BPF file system holds no socket; use another directory"
    )]
    SameDirectory {
        /// What was given.
        path: PathBuf,
    },
    /// Not a name a Node can have.
    #[error(
        "MESH105 --node-name {name:?}: a Node's name is lower-case letters, digits, '-' and '.', at most 253; give \
         the name that `kubectl get nodes` shows"
    )]
    NodeName {
        /// What was given, or the host's name.
        name: String,
    },
    /// kube-proxy's configuration file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Source NAT has no port.
    #[error(
        "MESH109 --snat-ports {snat}: all of them are node ports (--nodeport-range {node}), so source NAT has none; \
         give a range that reaches beyond"
    )]
    NoSnatPorts {
        /// --snat-ports
        snat: PortRange,
        /// --nodeport-range
        node: PortRange,
    },
    /// Two servers on one address.
    #[error(
        "MESH106 --metrics-bind-address {address}: --healthz-bind-address is the same; choose another port for one"
    )]
    SameAddress {
        /// The address.
        address: SocketAddr,
    },
}

/// Everything `run` was told.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// Where objects come from.
    pub source: SourceConfig,
    /// This node's name.
    pub node_name: String,
    /// --service-proxy-name: which Services are ours; None is those without the label.
    pub service_proxy_name: Option<String>,
    /// The cgroup2 directory to attach to; None is the cgroup2 mount.
    pub cgroup: Option<PathBuf>,
    /// Where pins, socket and lock are.
    pub directories: Directories,
    /// --nodeport-addresses
    pub node_port_addresses: NodePortAddresses,
    /// --nodeport-range
    pub node_ports: PortRange,
    /// --snat-ports
    pub snat_ports: PortRange,
    /// --device: the node's devices by name; None for those that carry the node's addresses.
    pub devices: Option<Vec<String>>,
    /// --netns-dir: where network namespaces of pods are files.
    pub netns_directories: Vec<PathBuf>,
    /// --terminate-connections: whose sockets are destroyed.
    pub terminate_connections: TerminateConnections,
    /// --take-over: UDP flows that kube-proxy's rules began are taken over at once.
    pub take_over: bool,
    /// --conntrack-tcp-timeout-*: what the kernel's own conntrack is set to.
    pub conntrack: Timeouts,
    /// Sizes of the maps.
    pub capacities: Capacities,
    /// How often the maps are looked after.
    pub housekeeping: Intervals,
    /// What listens where.
    pub servers: ServersConfig,
    /// How lines look, and which there are.
    pub logging: LoggingConfig,
    /// Run although another program translates Services on our hooks.
    pub force: bool,
    /// What in --config has no meaning here.
    pub warnings: Vec<String>,
}

/// --source and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// An API server.
    Kube {
        /// --kubeconfig
        kubeconfig: Option<PathBuf>,
        /// --api-server
        api_server: Option<String>,
    },
    /// A directory of manifests.
    Dir(PathBuf),
}

/// --terminate-connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TerminateConnections {
    /// Connections to backends that are gone
    #[default]
    Gone,
    /// None: programs find out by themselves
    Never,
}

/// --source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An API server.
    Kube,
    /// A directory of manifests.
    Dir(PathBuf),
}

/// --bpffs and --run-dir.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// Where programs, links and maps are pinned.
    pub bpffs: PathBuf,
    /// Where agent.sock, agent.lock, api-servers and snat-ports are.
    pub run_dir: PathBuf,
}

/// Sizes of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// --max-services: service ports, one per address family.
    pub services: u32,
    /// --max-backends: endpoints, counted once per service port.
    pub backends: u32,
    /// --max-flows: flows of packets, and entries of unconnected sockets; None where nothing is said.
    pub flows: Option<u32>,
    /// --max-affinity: clients of Services with session affinity.
    pub affinity: u32,
    /// --max-source-ranges: ranges that load balancers' addresses are open to.
    pub source_ranges: u32,
}

/// How often the maps are looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// --audit-interval: from one comparison of the kernel with what was written to the next.
    pub audit: Duration,
    /// --sweep-interval: from one look for what closed sockets left behind to the next.
    pub sweep: Duration,
}

/// What listens where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServersConfig {
    /// The directory of the admin socket.
    pub run_dir: PathBuf,
    /// --healthz-bind-address; None is off.
    pub healthz: Option<SocketAddr>,
    /// --metrics-bind-address; None is off.
    pub metrics: Option<SocketAddr>,
}

/// --logging-format and --log-level.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggingConfig {
    /// How lines look.
    pub format: Format,
    /// Which there are.
    pub level: Level,
}

/// An address to listen on, as kube-proxy takes it; empty is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<const PORT: u16>(pub Option<SocketAddr>);

/// As kube-proxy has them.
const HEALTHZ: Bind<10256> = Bind(Some(SocketAddr::new(
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    10256,
)));
const METRICS: Bind<10249> = Bind(Some(SocketAddr::new(
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    10249,
)));

impl RunConfig {
    /// From the flags. `host_name` is asked only when no flag names the node.
    pub fn new(
        directories: Directories,
        args: RunArgs,
        host_name: impl FnOnce() -> OsString,
    ) -> Result<Self, ConfigError> {
        let directories = directories.checked()?;
        let file = args.config.as_deref().map(KubeProxyFile::read);
        let file = file.transpose()?.unwrap_or_default();
        Ok(Self {
            source: source(&args, file.kubeconfig)?,
            node_name: node_name(args.node_name.or(file.node_name), host_name)?,
            service_proxy_name: args.service_proxy_name,
            cgroup: args
                .cgroup
                .map(|path| absolute("--cgroup", path))
                .transpose()?,
            node_port_addresses: args
                .nodeport_addresses
                .or(file.node_port_addresses)
                .unwrap_or_default(),
            node_ports: args.nodeport_range,
            snat_ports: snat_ports(args.snat_ports, args.nodeport_range)?,
            devices: Some(args.devices).filter(|devices| !devices.is_empty()),
            netns_directories: args.netns_dir,
            terminate_connections: args.terminate_connections,
            take_over: args.take_over,
            conntrack: Timeouts {
                established: args
                    .conntrack_tcp_timeout_established
                    .or(file.conntrack.established),
                close_wait: args
                    .conntrack_tcp_timeout_close_wait
                    .or(file.conntrack.close_wait),
            },
            capacities: args.capacities.into(),
            housekeeping: args.housekeeping.into(),
            servers: ServersConfig {
                run_dir: directories.run_dir.clone(),
                healthz: args
                    .healthz_bind_address
                    .or(file.healthz)
                    .unwrap_or(HEALTHZ)
                    .0,
                metrics: args
                    .metrics_bind_address
                    .or(file.metrics)
                    .unwrap_or(METRICS)
                    .0,
            }
            .checked()?,
            directories,
            logging: LoggingConfig {
                format: args
                    .logging_format
                    .or(file.logging_format)
                    .unwrap_or_default(),
                level: args.log_level.or(file.log_level).unwrap_or_default(),
            },
            force: args.force,
            warnings: file.warnings,
        })
    }
}

/// The kubeconfig that kube-proxy's file names counts for the source kube alone.
fn source(args: &RunArgs, kubeconfig: Option<PathBuf>) -> Result<SourceConfig, ConfigError> {
    let Source::Dir(path) = &args.source else {
        let kubeconfig = args.kubeconfig.clone().or(kubeconfig);
        let whole = |path| absolute("--kubeconfig", std::path::absolute(&path).unwrap_or(path));
        return Ok(SourceConfig::Kube {
            kubeconfig: kubeconfig.map(whole).transpose()?,
            api_server: args.api_server.clone(),
        });
    };
    let given = [
        ("--kubeconfig", args.kubeconfig.is_some()),
        ("--api-server", args.api_server.is_some()),
    ];
    if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
        return Err(ConfigError::NotForSource {
            flag,
            source_given: args.source.to_string(),
        });
    }
    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    absolute("--source", path).map(SourceConfig::Dir)
}

/// Ports that source NAT may use once the node ports are taken out.
fn snat_ports(snat: PortRange, node: PortRange) -> Result<PortRange, ConfigError> {
    if node.first <= snat.first && snat.last <= node.last {
        return Err(ConfigError::NoSnatPorts { snat, node });
    }
    Ok(snat)
}

/// A Node's name is the host's in lower case, as the kubelet makes it, unless it is given.
fn node_name(
    given: Option<String>,
    host_name: impl FnOnce() -> OsString,
) -> Result<String, ConfigError> {
    let name = given.unwrap_or_else(|| host_name().to_string_lossy().to_ascii_lowercase());
    if is_node_name(&name) {
        Ok(name)
    } else {
        Err(ConfigError::NodeName { name })
    }
}

fn is_node_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
        !label.is_empty()
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn absolute(flag: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    let is_plain = path.is_absolute() && path.parent().is_some();
    is_plain
        .then_some(())
        .ok_or_else(|| ConfigError::Path {
            flag,
            path: path.clone(),
        })
        .map(|()| path)
}

impl Directories {
    /// The same if both can be used.
    pub fn checked(self) -> Result<Self, ConfigError> {
        let bpffs = absolute("--bpffs", self.bpffs)?;
        let run_dir = absolute("--run-dir", self.run_dir)?;
        if bpffs == run_dir {
            return Err(ConfigError::SameDirectory { path: run_dir });
        }
        Ok(Self { bpffs, run_dir })
    }
}

impl ServersConfig {
    fn checked(self) -> Result<Self, ConfigError> {
        match (self.healthz, self.metrics) {
            (Some(healthz), Some(metrics)) if healthz == metrics && metrics.port() != 0 => {
                Err(ConfigError::SameAddress { address: metrics })
            }
            _ => Ok(self),
        }
    }

    /// Where the admin socket is.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket_path(&self.run_dir)
    }
}

/// The admin socket of a run directory.
#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join(crate::admin::run_dir::SOCKET)
}

impl From<CapacityArgs> for Capacities {
    fn from(args: CapacityArgs) -> Self {
        Self {
            services: args.max_services,
            backends: args.max_backends,
            flows: args.max_flows,
            affinity: args.max_affinity,
            source_ranges: args.max_source_ranges,
        }
    }
}

impl From<HousekeepingArgs> for Intervals {
    fn from(args: HousekeepingArgs) -> Self {
        Self {
            audit: args.audit_interval,
            sweep: args.sweep_interval,
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "kube" => Ok(Self::Kube),
            Some(("dir", path)) if !path.is_empty() => Ok(Self::Dir(path.into())),
            _ => Err("use kube, or dir:PATH with a directory of manifests".to_owned()),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kube => f.write_str("kube"),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

impl<const PORT: u16> FromStr for Bind<PORT> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let alone = || text.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT));
        let address = text.parse().or_else(|_| alone());
        let address = address.map_err(|_| {
            format!(
                "use IP:PORT, [IP]:PORT for IPv6, an IP alone for port {PORT}, or nothing for off"
            )
        })?;
        Ok(Self(Some(address)))
    }
}

#[cfg(test)]
mod tests;
