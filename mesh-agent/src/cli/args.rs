//! The command line: names, defaults and words of every command and flag. What the values mean is decided elsewhere.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Service load balancing in the kernel.
#[derive(Debug, Parser)]
#[command(name = "mesh-agent", version, about, propagate_version = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The daemon: programs the kernel from Kubernetes objects
    Run(Box<RunArguments>),
    /// Is this host fit? One line each, with a stable code and a fix
    Check(CheckArguments),
    /// One screen of health
    Status(StatusArguments),
    /// What Services there are, and what the kernel holds for them
    #[command(subcommand)]
    Service(ServiceCommand),
    /// A typed dump of one map
    Bpf(BpfArguments),
    /// What would happen to a connection, step by step, from the live maps
    Trace(TraceArguments),
    /// Take every program, link, pin and map of ours off the host
    Cleanup(CleanupArguments),
    /// Change the running daemon's log level
    Log(LogArguments),
    /// Write a shell's completions to stdout
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Version of the binary and of the map layouts
    Version(OutputArguments),
    /// Write the reference pages into a directory
    #[command(hide = true)]
    Reference {
        /// docs/reference of the source tree
        directory: PathBuf,
    },
}

/// Where an agent keeps its things; every command has these.
#[derive(Clone, Debug, Args)]
pub(super) struct PlaceArguments {
    /// Where programs, links and maps are pinned
    #[arg(long, value_name = "PATH", default_value = "/sys/fs/bpf/mesh-agent")]
    pub(super) bpffs: PathBuf,
    /// Where agent.sock and agent.lock are
    #[arg(long, value_name = "PATH", default_value = "/run/mesh-agent")]
    pub(super) run_dir: PathBuf,
}

/// How data is printed.
#[derive(Clone, Debug, Args)]
pub(super) struct OutputArguments {
    /// How to print
    #[arg(short, long, value_enum, default_value = "table")]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LoggingFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Where objects come from: dir:PATH, a directory of manifests
    #[arg(long, value_name = "kube | dir:PATH", default_value = "kube")]
    pub(super) source: String,
    /// This node's name [default: the host name]
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub(super) node_name: Option<String>,
    /// Serve only Services with this label service.kubernetes.io/service-proxy-name [default: those without]
    #[arg(long, value_name = "NAME")]
    pub(super) service_proxy_name: Option<String>,
    /// The cgroup2 directory to attach to [default: the cgroup2 mount]
    #[arg(long, value_name = "PATH")]
    pub(super) cgroup: Option<PathBuf>,
    /// Where the health server listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 10256)))]
    pub(super) healthz_bind_address: SocketAddr,
    /// Where the metrics server listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 10249)))]
    pub(super) metrics_bind_address: SocketAddr,
    /// Room for frontends (addresses times ports of Services) and as many service ports
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(8..=16_777_216))]
    pub(super) max_services: u32,
    /// Room for backends; an endpoint takes one for each port
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(8..=16_777_216))]
    pub(super) max_backends: u32,
    /// Room for clients with session affinity
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(8..=16_777_216))]
    pub(super) max_affinity: u32,
    /// Room for what unconnected UDP sockets have sent through Services
    #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(8..=16_777_216))]
    pub(super) max_sockets: u32,
    /// Run although another program that translates Services is on our hooks
    #[arg(long)]
    pub(super) force: bool,
    /// What is logged: error, warn, info, debug, trace, or directives such as info,mesh_agent::source=debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: String,
    /// How it is logged
    #[arg(long, value_enum, default_value = "text")]
    pub(super) logging_format: LoggingFormat,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Only what must hold before an agent runs
    #[arg(long)]
    pub(super) pre: bool,
    /// The cgroup2 directory an agent would attach to [default: the cgroup2 mount]
    #[arg(long, value_name = "PATH")]
    pub(super) cgroup: Option<PathBuf>,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// Wait until the agent is healthy
    #[arg(long)]
    pub(super) wait: bool,
    /// Seconds to wait at most
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(super) timeout: u64,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// All Services
    List(OutputArguments),
    /// One Service: its frontends and backends
    Get(ServiceArguments),
    /// What the kernel holds for a Service, and which endpoints are not used and why
    Explain(ServiceArguments),
}

#[derive(Debug, Args)]
pub(super) struct ServiceArguments {
    /// NAMESPACE/NAME
    pub(super) name: String,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(super) struct BpfArguments {
    /// The map
    #[arg(value_enum)]
    pub(super) map: MapName,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

/// Maps that can be dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum MapName {
    Frontends,
    Services,
    Sets,
    Slots,
    Backends,
    Affinity,
    Sockets,
    Counters,
}

#[derive(Debug, Args)]
pub(super) struct TraceArguments {
    /// Where the connection goes
    #[arg(long, value_name = "IP:PORT")]
    pub(super) to: SocketAddr,
    /// Over what
    #[arg(long, value_enum, default_value = "tcp")]
    pub(super) protocol: TraceProtocol,
    /// Cookie of the client's network namespace, for session affinity
    #[arg(long, value_name = "COOKIE", default_value_t = 0)]
    pub(super) netns_cookie: u64,
    /// Seed of the random choice [default: the clock]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TraceProtocol {
    /// connect() of a TCP socket
    Tcp,
    /// connect() of a UDP socket
    Udp,
    /// sendto() of an unconnected UDP socket
    UdpUnconnected,
}

#[derive(Debug, Args)]
pub(super) struct CleanupArguments {
    /// Only say what would be removed
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// error, warn, info, debug, trace, or directives such as info,mesh_agent::source=debug
    pub(super) level: String,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_exit_status_2() {
        for line in [
            vec!["mesh-agent"],
            vec!["mesh-agent", "run", "--nonsense"],
            vec!["mesh-agent", "bpf", "nothing"],
        ] {
            assert_eq!(Arguments::try_parse_from(line).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn defaults_are_those_of_the_surface() {
        let arguments =
            Arguments::try_parse_from(["mesh-agent", "run", "--source", "dir:/x"]).unwrap();
        let Command::Run(run) = arguments.command else {
            panic!("not run")
        };
        assert_eq!(run.place.bpffs, PathBuf::from("/sys/fs/bpf/mesh-agent"));
        assert_eq!(run.place.run_dir, PathBuf::from("/run/mesh-agent"));
        assert_eq!(run.healthz_bind_address.to_string(), "0.0.0.0:10256");
        assert_eq!(run.metrics_bind_address.to_string(), "127.0.0.1:10249");
        assert_eq!(
            (run.max_services, run.max_backends, run.max_affinity),
            (65_536, 262_144, 65_536)
        );
    }
}
