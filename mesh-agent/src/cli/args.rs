//! Every command and flag. The help texts here are what users read, in the terminal and in docs/reference/cli.md.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, builder::TypedValueParser};
use mesh_common::Protocol;
use mesh_ebpf::PacketHook;

use super::duration;
use crate::{
    config::{Bind, Directories, PortRange, Source, TerminateConnections},
    interfaces::NETNS_DIRECTORIES,
    model::NodePortAddresses,
    telemetry::log::{Format, Level},
};

/// Service load balancing for a Kubernetes node, in the kernel
#[derive(Debug, Parser)]
#[command(name = "mesh-agent", version, subcommand_required = true)]
pub struct Cli {
    /// Where pins, socket and lock are.
    #[command(flatten)]
    pub directories: DirectoryArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// --bpffs and --run-dir, on every command.
#[derive(Debug, Args)]
pub struct DirectoryArgs {
    /// Where programs, links and maps are pinned, mode 0700
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/sys/fs/bpf/mesh-agent"
    )]
    pub bpffs: PathBuf,
    /// Where agent.sock, agent.lock, api-servers and snat-ports are
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/mesh-agent"
    )]
    pub run_dir: PathBuf,
}

impl From<DirectoryArgs> for Directories {
    fn from(args: DirectoryArgs) -> Self {
        Self {
            bpffs: args.bpffs,
            run_dir: args.run_dir,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Run(Box<RunArgs>),
    /// Say whether this host is fit: kernel, features, conflicts
    Check(CheckArgs),
    /// Show one screen of health; exit 1 unless the agent is ready
    Status(StatusArgs),
    /// Show Services and what the kernel holds for them
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Show local pods as the agent finds them
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Dump one map, from its pin
    Bpf(BpfArgs),
    /// Say what would happen to a call, step by step, from the live maps
    Trace(TraceArgs),
    /// Take every program, link, pin and map of ours off this host
    Cleanup(CleanupArgs),
    /// Change what the running agent logs
    Log {
        /// error, warn, info, debug, trace or off; by target: info,mesh_agent::engine=debug
        level: Level,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version(OutputArgs),
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where objects come from: kube, or dir:PATH with a directory of manifests
    #[arg(long, value_name = "SOURCE", default_value = "kube")]
    pub source: Source,
    /// How to reach the API server
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The API server's address, if it is not that of the kubeconfig
    #[arg(long, value_name = "URL")]
    pub api_server: Option<String>,
    /// This node's name [default: the host's name]
    #[arg(
        long,
        visible_alias = "hostname-override",
        value_name = "NAME",
        env = "NODE_NAME",
        hide_env_values = true
    )]
    pub node_name: Option<String>,
    /// Serve only Services with this value of the label service.kubernetes.io/service-proxy-name [default: those
    /// without the label]
    #[arg(long, value_name = "NAME")]
    pub service_proxy_name: Option<String>,
    /// The cgroup2 directory to attach to [default: the cgroup2 mount]
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// kube-proxy's configuration file; flags count more, and what has no meaning here is named in a warning
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where /healthz, /livez and /readyz are served; empty for nowhere [default: 0.0.0.0:10256]
    #[arg(long, value_name = "IP:PORT")]
    pub healthz_bind_address: Option<Bind<10256>>,
    /// Where /metrics is served; empty for nowhere [default: 127.0.0.1:10249]
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_bind_address: Option<Bind<10249>>,
    /// Where node ports are served: ranges of the node's addresses, or primary for those of its Node object; a family that
    /// no range is of is served on all [default: all of the node's addresses]
    #[arg(long, value_name = "RANGES")]
    pub nodeport_addresses: Option<NodePortAddresses>,
    /// The cluster's node ports, which source NAT leaves alone
    #[arg(long, value_name = "FIRST-LAST", default_value = "30000-32767")]
    pub nodeport_range: PortRange,
    /// Ports that source NAT may use
    #[arg(long, value_name = "FIRST-LAST", default_value = "1024-65535")]
    pub snat_ports: PortRange,
    /// The node's devices, by name; may be given several times [default: those that carry the node's addresses]
    #[arg(long = "device", value_name = "NAME", value_delimiter = ',', value_parser = device())]
    pub devices: Vec<String>,
    /// Directories in which network namespaces of pods are files; may be given several times
    #[arg(long, value_name = "PATH", value_delimiter = ',', default_values = NETNS_DIRECTORIES)]
    pub netns_dir: Vec<PathBuf>,
    /// Which connections through a Service are ended: those whose backend no EndpointSlice and no running Pod has any
    /// more, or none
    #[arg(long, value_name = "WHICH", value_enum, default_value_t)]
    pub terminate_connections: TerminateConnections,
    /// Take UDP flows over from kube-proxy at once, and not when they have been silent for 30 s
    #[arg(long)]
    pub take_over: bool,
    /// Have the kernel's own conntrack remember established TCP connections for so long, as kube-proxy does [default: left as it is]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub conntrack_tcp_timeout_established: Option<Duration>,
    /// The same for TCP connections that one side has closed
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub conntrack_tcp_timeout_close_wait: Option<Duration>,
    /// Sizes of the maps.
    #[command(flatten)]
    pub capacities: CapacityArgs,
    /// How often the agent looks after the maps.
    #[command(flatten)]
    pub housekeeping: HousekeepingArgs,
    /// How log lines look: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub logging_format: Option<Format>,
    /// What is logged; `mesh-agent log` changes it while the agent runs [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<Level>,
    /// Run although another program on the same hooks translates Services
    #[arg(long)]
    pub force: bool,
}

/// Sizes of the maps.
#[derive(Clone, Copy, Debug, Args)]
pub struct CapacityArgs {
    /// Most service ports, one per address family; those that do not fit are reported, the rest work
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = size())]
    pub max_services: u32,
    /// Most backends, counted once per service port
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = size())]
    pub max_backends: u32,
    /// Most flows of packets, and most entries of unconnected sockets [default: 65536 and 262144]
    #[arg(long, visible_alias = "max-sockets", value_name = "N", value_parser = size())]
    pub max_flows: Option<u32>,
    /// Most clients of Services with session affinity
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = size())]
    pub max_affinity: u32,
    /// Most ranges of clients that load balancers' addresses are open to, counted once per service port
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = size())]
    pub max_source_ranges: u32,
}

/// How often the agent looks after the maps. Hidden: there is nothing to tune here, but a test cannot wait.
#[derive(Clone, Copy, Debug, Args)]
pub struct HousekeepingArgs {
    /// From one comparison of the kernel with what was written to the next
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse, hide = true)]
    pub audit_interval: Duration,
    /// From one look for what closed sockets left behind to the next
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration::parse, hide = true)]
    pub sweep_interval: Duration,
}

/// An interface's name, as the kernel takes it (IFNAMSIZ with its zero is 16).
fn device() -> impl TypedValueParser<Value = String> {
    clap::builder::StringValueParser::new().try_map(|name| {
        let is_plain = |it: u8| it.is_ascii_graphic() && it != b'/' && it != b':';
        let fits = (1..16).contains(&name.len()) && name.bytes().all(is_plain);
        fits.then_some(name)
            .ok_or("use an interface's name, as `ip link` shows it")
    })
}

/// Maps of more entries would take gigabytes; none is no map.
fn size() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=16_777_216)
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Look at the host alone: no agent has to run
    #[arg(long)]
    pub pre: bool,
    /// The cgroup2 directory that `run` would attach to [default: the cgroup2 mount]
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Wait until the agent is ready
    #[arg(long)]
    pub wait: bool,
    /// How long to wait: 30s, 5m, 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    pub timeout: Duration,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `service`'s own commands.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List all Services
    List(OutputArgs),
    /// Show one Service with its frontends and backends
    Get(ServiceArgs),
    /// Say how a Service came to what the kernel holds for it, and why endpoints are left out
    Explain(ServiceArgs),
}

/// `endpoint`'s own commands.
#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// List the local pods: their interfaces on the host and their addresses
    List(OutputArgs),
}

/// Which Service.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// Namespace and name
    #[arg(value_name = "NAMESPACE/NAME")]
    pub name: ServiceName,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Namespace and name of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.'))
        };
        match text.split_once('/') {
            Some((namespace, name)) if fits(namespace) && fits(name) => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err("use NAMESPACE/NAME, for example default/web".to_owned()),
        }
    }
}

/// Flags of `bpf`.
#[derive(Debug, Args)]
pub struct BpfArgs {
    /// The map
    #[arg(value_name = "NAME")]
    pub map: MapName,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The maps that `bpf` dumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MapName {
    /// What clients ask for, and the service port and set behind it
    Frontends,
    /// Whom load balancers' addresses are open to
    SourceRanges,
    /// Service ports and their session affinity
    Services,
    /// Regions of slots
    Sets,
    /// The backends of each set
    Slots,
    /// Where connections go
    Backends,
    /// Which backend a client had last
    Affinity,
    /// Who the clients at sockets are, by their network namespaces
    Clients,
    /// What is remembered of sockets that talk through a Service
    Sockets,
    /// Flows that the packet path translates
    Flows,
    /// What the datapath counted
    Counters,
}

/// Flags of `trace`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("origin").args(["packet", "unconnected"]).multiple(true)))]
pub struct TraceArgs {
    /// Cookie of the client's network namespace, which session affinity goes by; 0 is a process of the host
    #[arg(long, value_name = "COOKIE", default_value_t = 0)]
    pub from_netns: u64,
    /// Where the program wants to go
    #[arg(long, value_name = "IP:PORT", value_parser = destination)]
    pub to: SocketAddr,
    /// tcp or udp [default: tcp]
    #[arg(long, visible_alias = "proto", value_name = "PROTOCOL", value_parser = protocol)]
    pub protocol: Option<Protocol>,
    /// A datagram of an unconnected UDP socket
    #[arg(long)]
    pub unconnected: bool,
    /// A packet at this hook, instead of a call at a socket
    #[arg(long, value_name = "HOOK", value_parser = hook, requires = "from")]
    pub packet: Option<PacketHook>,
    /// Where the packet comes from, or the datagram of an unconnected UDP socket
    #[arg(long, value_name = "IP:PORT", value_parser = destination, requires = "origin")]
    pub from: Option<SocketAddr>,
    /// The packet's TCP flags: syn, ack, fin, rst, joined by commas
    #[arg(long, value_name = "FLAGS", value_parser = tcp_flags, default_value = "syn", requires = "packet")]
    pub flags: u8,
    /// The interface whose hook it is: its address stands for the client where one must
    #[arg(long, value_name = "NAME", requires = "packet")]
    pub interface: Option<String>,
    /// Seed of the random choice among backends, or of a source port
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

fn hook(text: &str) -> Result<PacketHook, String> {
    let name = text.replace('-', "_");
    PacketHook::ALL
        .into_iter()
        .find(|hook| hook.name() == name)
        .ok_or_else(|| {
            format!("`{text}` is no hook of packets: from-pod, to-pod, from-device or to-device")
        })
}

/// As in the TCP header (RFC 9293, 3.1).
fn tcp_flags(text: &str) -> Result<u8, String> {
    let flag = |word: &str| match word {
        "fin" => Ok(1),
        "syn" => Ok(2),
        "rst" => Ok(4),
        "ack" => Ok(16),
        other => Err(format!("`{other}` is no TCP flag: syn, ack, fin or rst")),
    };
    text.split(',')
        .try_fold(0, |flags, word| Ok(flags | flag(word)?))
}

fn destination(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "use IP:PORT, for example 10.96.0.10:80 or [fd00::10]:80".to_owned())
}

fn protocol(text: &str) -> Result<Protocol, String> {
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|protocol| protocol.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| "use tcp or udp".to_owned())
}

/// Flags of `cleanup`.
#[derive(Debug, Args)]
pub struct CleanupArgs {
    /// Say what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Take away what kube-proxy left: its rules in nftables and iptables. The agent may run, and nothing of it goes
    #[arg(long)]
    pub kube_proxy_rules: bool,
    /// Take kube-proxy's rules away although it runs
    #[arg(long, requires = "kube_proxy_rules")]
    pub force: bool,
    /// When all is gone, wait for SIGTERM: containers of a DaemonSet must not end
    #[arg(long, conflicts_with = "dry_run")]
    pub then_wait: bool,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// -o.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgs {
    /// How to show it
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub output: Output,
}

/// The ways to show something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// One document with apiVersion and kind
    Json,
}
