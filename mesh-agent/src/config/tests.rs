use clap::Parser;

use super::*;
use crate::cli::args::{Cli, Command};

fn config(flags: &[&str]) -> Result<RunConfig, ConfigError> {
    let arguments = ["mesh-agent", "run"].iter().chain(flags);
    let cli = Cli::try_parse_from(arguments).unwrap();
    let Command::Run(args) = cli.command else {
        panic!("not run");
    };
    RunConfig::new(cli.directories.into(), *args, || "Host-1.example".into())
}

fn with_source(flags: &[&str]) -> Result<RunConfig, ConfigError> {
    config(&[&["--source", "dir:/manifests"], flags].concat())
}

#[test]
fn defaults_are_those_of_the_design() {
    let config = with_source(&[]).unwrap();
    assert_eq!(config.source, SourceConfig::Dir("/manifests".into()));
    let kube = SourceConfig::Kube {
        kubeconfig: None,
        api_server: None,
    };
    assert_eq!(super::tests::config(&[]).unwrap().source, kube);
    assert_eq!(config.node_name, "host-1.example");
    assert_eq!(
        config.directories.bpffs,
        Path::new("/sys/fs/bpf/mesh-agent")
    );
    assert_eq!(
        config.servers.socket(),
        Path::new("/run/mesh-agent/agent.sock")
    );
    assert_eq!(
        config.servers.healthz,
        Some("0.0.0.0:10256".parse().unwrap())
    );
    assert_eq!(
        config.servers.metrics,
        Some("127.0.0.1:10249".parse().unwrap())
    );
    let capacities = Capacities {
        services: 65_536,
        backends: 262_144,
        flows: None,
        affinity: 65_536,
        source_ranges: 16_384,
    };
    assert_eq!(config.capacities, capacities);
    assert_eq!(config.logging.format, Format::Text);
    assert!(!config.force);
    assert_eq!(config.node_ports.to_string(), "30000-32767");
    assert_eq!(config.snat_ports.to_string(), "1024-65535");
    assert_eq!(config.node_port_addresses, NodePortAddresses::All);
    assert_eq!(config.devices, None);
}

#[test]
fn devices_are_named_one_by_one_or_together() {
    let config = with_source(&["--device", "eth0,eth1", "--device", "wg0"]).unwrap();
    let devices = ["eth0", "eth1", "wg0"].map(str::to_owned);
    assert_eq!(config.devices, Some(devices.to_vec()));
}

#[test]
fn what_does_not_parse_says_how_it_is_written() {
    for (flag, value, how) in [
        ("--nodeport-addresses", "everywhere", "ADDRESS/BITS"),
        ("--nodeport-range", "32767-30000", "FIRST-LAST"),
        ("--snat-ports", "1024", "FIRST-LAST"),
        ("--device", "a/b", "ip link"),
    ] {
        let wrong = Cli::try_parse_from(["mesh-agent", "run", flag, value]).unwrap_err();
        let text = wrong.to_string();
        assert!(text.contains(flag) && text.contains(how), "{text}");
    }
}

#[test]
fn each_wrong_setting_names_its_flag_and_a_code() {
    for (flags, code, flag) in [
        (
            vec!["--source", "dir:/m", "--kubeconfig", "/k"],
            "MESH102",
            "--kubeconfig",
        ),
        (
            vec!["--source", "dir:/m", "--api-server", "https://k"],
            "MESH102",
            "--api-server",
        ),
        (vec!["--source", "dir:/"], "MESH103", "--source"),
        (
            vec!["--source", "dir:/m", "--bpffs", "/"],
            "MESH103",
            "--bpffs",
        ),
        (
            vec!["--source", "dir:/m", "--cgroup", "c"],
            "MESH103",
            "--cgroup",
        ),
        (
            vec!["--source", "dir:/m", "--bpffs", "/x", "--run-dir", "/x"],
            "MESH104",
            "--run-dir",
        ),
        (
            vec!["--source", "dir:/m", "--node-name", "Node_1"],
            "MESH105",
            "--node-name",
        ),
        (
            vec![
                "--source",
                "dir:/m",
                "--metrics-bind-address",
                "0.0.0.0:10256",
            ],
            "MESH106",
            "--metrics-bind-address",
        ),
        (
            vec!["--source", "dir:/m", "--snat-ports", "30000-31000"],
            "MESH109",
            "--snat-ports",
        ),
    ] {
        let error = config(&flags).unwrap_err().to_string();
        assert!(error.starts_with(code), "{flags:?}: {error}");
        assert!(error.contains(flag), "{flags:?}: {error}");
    }
}

#[test]
fn a_source_may_be_named_from_where_the_user_stands() {
    let config = config(&["--source", "dir:m"]).unwrap();
    let whole = std::env::current_dir().unwrap().join("m");
    assert_eq!(config.source, SourceConfig::Dir(whole));
}

#[test]
fn addresses_are_taken_as_kube_proxy_takes_them() {
    for (text, address) in [
        ("", None),
        ("0.0.0.0", Some("0.0.0.0:7")),
        ("::1", Some("[::1]:7")),
        ("[::]:80", Some("[::]:80")),
        ("10.0.0.1:80", Some("10.0.0.1:80")),
    ] {
        let bind: Bind<7> = text.parse().unwrap();
        assert_eq!(bind.0, address.map(|it| it.parse().unwrap()), "{text}");
    }
    for wrong in ["nonsense", "localhost:80", "1.2.3.4:99999", ":80"] {
        let error = wrong.parse::<Bind<7>>().unwrap_err();
        assert!(error.contains("IP:PORT"), "{error}");
    }
}

#[test]
fn node_names_are_dns_names() {
    for (name, fit) in [
        ("a", true),
        ("node-1.zone.example", true),
        ("", false),
        ("-a", false),
        ("a.", false),
        ("A", false),
        ("a b", false),
    ] {
        assert_eq!(is_node_name(name), fit, "{name:?}");
    }
    assert!(!is_node_name(&"a".repeat(254)));
}
