//! Commands from their arguments to their output, over a made-up host and a real admin socket.

use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use mesh_common::{
    Address, Backend, BackendState, BackendWord, FrontendKey, FrontendValue, Port, ServiceWord,
    SetWord,
};
use serde_json::Value;

use super::*;
use crate::{
    admin::tests::{Fake, Scratch, start},
    plan::TableDump,
    telemetry::{
        dump::Live,
        log::LogHandle,
        view::{BackendView, CheckLevel, CheckView, ProblemView, RemovedView, ServicePortView},
    },
};

struct FakeHost {
    worst: CheckLevel,
}

impl Host for FakeHost {
    fn run(&self, _: RunConfig, _: LogHandle) -> Result<(), Fault> {
        Ok(())
    }

    fn check(&self, _: &CheckTarget<'_>) -> Vec<CheckView> {
        vec![CheckView {
            code: "MESH001".to_owned(),
            level: self.worst,
            object: "kernel".to_owned(),
            what: "6.18".to_owned(),
            fix: String::new(),
        }]
    }

    fn live(&self, directories: &Directories, _: bool) -> Result<Live, Fault> {
        if directories.bpffs == Path::new("/missing") {
            return Err(Fault {
                code: "MESH042".to_owned(),
                what: "nothing is pinned in /missing".to_owned(),
                fix: "start the agent".to_owned(),
            });
        }
        Ok(live())
    }

    fn clean_kube_proxy(&self, _: bool, force: bool) -> Result<Vec<RemovedView>, Fault> {
        Ok(vec![RemovedView {
            what: "nftables".to_owned(),
            name: format!("ip kube-proxy, force {force}"),
        }])
    }

    fn cleanup(&self, _: &Directories, _: bool) -> Result<Vec<RemovedView>, Fault> {
        Ok(vec![RemovedView {
            what: "map".to_owned(),
            name: "sets_v1".to_owned(),
        }])
    }
}

fn live() -> Live {
    let address = |last: u8| Address::from(Ipv4Addr::new(10, 96, 0, last));
    let none = Backend::new(
        Address::UNSPECIFIED,
        BackendWord::new(Port::new(0), BackendState::Gone, 0),
    );
    let ready = BackendWord::new(Port::new(8080), BackendState::Ready, 1);
    Live {
        tables: TableDump {
            frontends: vec![
                (
                    FrontendKey::new(address(10), Port::new(80), 6),
                    FrontendValue::new(1, 1, 0),
                ),
                (
                    FrontendKey::whole_address(address(10)),
                    FrontendValue::refuse(),
                ),
            ],
            services: vec![ServiceWord::new(0); 2],
            sets: vec![SetWord::EMPTY, SetWord::new(0, 1)],
            slots: vec![1],
            backends: vec![none, Backend::new(Ipv4Addr::new(10, 0, 0, 9).into(), ready)],
            ranges: Vec::new(),
        },
        ..Live::default()
    }
}

struct Said {
    status: u8,
    out: String,
    err: String,
}

fn command(host: &FakeHost, arguments: &[&str]) -> Said {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = ["mesh-agent"].iter().chain(arguments).map(OsString::from);
    let status = run(
        arguments,
        host,
        &mut Terminal::new(&mut out, false),
        &mut err,
    );
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said {
        status,
        out: text(out),
        err: text(err),
    }
}

fn alone(arguments: &[&str]) -> Said {
    let run_dir = format!("/nonexistent-{}", std::process::id());
    let all = [arguments, &["--run-dir", &run_dir]].concat();
    command(
        &FakeHost {
            worst: CheckLevel::Ok,
        },
        &all,
    )
}

#[test]
fn wrong_usage_is_two_and_says_so_on_stderr() {
    for (wrong, word) in [
        (vec![], "Usage"),
        (vec!["nonsense"], "nonsense"),
        (vec!["service"], "Usage"),
        (vec!["service", "get", "web"], "NAMESPACE/NAME"),
        (vec!["service", "get", "a/../b"], "NAMESPACE/NAME"),
        (vec!["status", "--nonsense"], "--nonsense"),
        (vec!["status", "--timeout", "soon"], "--timeout"),
        (vec!["bpf", "nonsense"], "frontends"),
        (vec!["trace", "--to", "10.0.0.1", "--proto", "tcp"], "--to"),
        (
            vec!["trace", "--to", "10.0.0.1:1", "--proto", "sctp"],
            "--protocol",
        ),
        (vec!["log", "loud"], "debug"),
        (vec!["run", "--max-services", "none"], "--max-services"),
        (vec!["run", "--max-services", "0"], "--max-services"),
        (
            vec!["run", "--metrics-bind-address", "nonsense"],
            "--metrics-bind-address",
        ),
        (vec!["run", "--source", "ftp:somewhere"], "--source"),
        (
            vec!["run", "--source", "dir:/m", "--api-server", "https://k"],
            "MESH102",
        ),
        (vec!["bpf", "sets", "--bpffs", "here"], "MESH103"),
    ] {
        let said = command(
            &FakeHost {
                worst: CheckLevel::Ok,
            },
            &wrong,
        );
        assert_eq!(said.status, 2, "{wrong:?}: {}", said.err);
        assert!(said.err.contains(word), "{wrong:?}: {}", said.err);
        assert_eq!(said.out, "", "{wrong:?}");
    }
}

#[test]
fn no_agent_is_one_and_says_what_to_do() {
    for arguments in [
        vec!["status"],
        vec!["service", "list"],
        vec!["service", "explain", "default/web"],
        vec!["log", "debug"],
    ] {
        let said = alone(&arguments);
        assert_eq!(said.status, 1, "{arguments:?}");
        assert!(
            said.err.contains("agent.sock") && said.err.contains("mesh-agent run"),
            "{}",
            said.err
        );
        assert_eq!(said.out, "");
    }
}

#[test]
fn help_version_and_completions_are_data() {
    for arguments in [
        vec!["--help"],
        vec!["--version"],
        vec!["version"],
        vec!["completions", "bash"],
    ] {
        let said = command(
            &FakeHost {
                worst: CheckLevel::Ok,
            },
            &arguments,
        );
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{arguments:?}");
        assert!(said.out.contains("mesh-agent"), "{}", said.out);
    }
}

#[test]
fn everything_that_lists_is_json_too() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let servers = start(&scratch, &fake, "127.0.0.1");
    let run_dir = scratch.0.to_str().unwrap();
    let mut commands: Vec<(Vec<&str>, &str)> = vec![
        (vec!["status"], "Status"),
        (vec!["check"], "CheckList"),
        (vec!["check", "--pre"], "CheckList"),
        (vec!["service", "list"], "ServiceList"),
        (vec!["service", "get", "default/web"], "Service"),
        (
            vec!["service", "explain", "default/web"],
            "ServiceExplanation",
        ),
        (vec!["endpoint", "list"], "EndpointList"),
        (vec!["cleanup", "--dry-run"], "Cleanup"),
        (vec!["version"], "Version"),
        (
            vec!["trace", "--to", "10.96.0.10:80", "--proto", "tcp"],
            "Trace",
        ),
    ];
    for (map, kind) in [
        ("frontends", "FrontendList"),
        ("services", "ServicePortList"),
        ("sets", "SetList"),
        ("slots", "SlotList"),
        ("backends", "BackendList"),
        ("affinity", "AffinityList"),
        ("clients", "ClientList"),
        ("source-ranges", "SourceRangeList"),
        ("sockets", "SocketList"),
        ("counters", "CounterList"),
    ] {
        commands.push((vec!["bpf", map], kind));
    }
    let host = FakeHost {
        worst: CheckLevel::Warn,
    };
    for (arguments, kind) in commands {
        let arguments = [arguments.as_slice(), &["--run-dir", run_dir]].concat();
        let table = command(&host, &arguments);
        assert_eq!(table.status, 0, "{arguments:?}: {}", table.err);
        assert!(
            !table.out.trim().is_empty() && !table.out.contains('\u{1b}'),
            "{}",
            table.out
        );
        let json = command(&host, &[arguments.as_slice(), &["-o", "json"]].concat());
        let document: Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(document["kind"], kind);
        assert_eq!(document["apiVersion"], "mesh-agent.io/v1alpha1");
    }
    servers.stop();
}

#[test]
fn a_missing_service_is_named() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let servers = start(&scratch, &fake, "127.0.0.1");
    let host = FakeHost {
        worst: CheckLevel::Ok,
    };
    let run_dir = scratch.0.to_str().unwrap();
    let said = command(
        &host,
        &["service", "get", "default/missing", "--run-dir", run_dir],
    );
    assert_eq!((said.status, said.out.as_str()), (1, ""));
    assert!(said.err.contains("default/missing"), "{}", said.err);
    let said = command(&host, &["log", "debug", "--run-dir", run_dir]);
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    assert_eq!(*fake.level.lock().unwrap(), "debug");
    servers.stop();
}

#[test]
fn status_waits_until_the_agent_is_there_and_ready() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    fake.health.lock().unwrap().not_ready = Some("starting".to_owned());
    let host = FakeHost {
        worst: CheckLevel::Ok,
    };
    let run_dir = scratch.0.to_str().unwrap();
    let wait = |timeout| {
        let arguments = [
            "status",
            "--wait",
            "--timeout",
            timeout,
            "--run-dir",
            run_dir,
        ];
        command(&host, &arguments)
    };
    assert_eq!(wait("300ms").status, 1, "no agent");
    let servers = start(&scratch, &fake, "127.0.0.1");
    let said = wait("300ms");
    assert_eq!(said.status, 1, "not ready");
    assert!(said.out.contains("not ready: starting"), "{}", said.out);
    let later = Arc::clone(&fake);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        later.health.lock().unwrap().not_ready = None;
    });
    let said = wait("30s");
    assert_eq!(said.status, 0, "{}", said.err);
    thread.join().unwrap();
    servers.stop();
}

#[test]
fn check_fails_on_errors_alone() {
    for (worst, status) in [
        (CheckLevel::Ok, 0),
        (CheckLevel::Warn, 0),
        (CheckLevel::Error, 1),
    ] {
        let said = command(&FakeHost { worst }, &["check", "--pre"]);
        assert_eq!(said.status, status);
        assert!(said.out.contains("MESH001"), "{}", said.out);
    }
    let said = alone(&["check"]);
    assert_eq!(said.status, 1);
    assert!(
        said.out.contains("MESH120") && said.out.contains("--pre"),
        "{}",
        said.out
    );
}

#[test]
fn trace_says_where_a_call_goes_or_why_not() {
    let trace = |to: &str| alone(&["trace", "--to", to, "--proto", "tcp"]).out;
    let served = trace("10.96.0.10:80");
    assert!(
        served.contains("forwarded: to 10.0.0.9:8080") && served.contains(" 1. "),
        "{served}"
    );
    assert!(trace("10.96.0.10:81").contains("refused: no_such_port"));
    assert!(trace("192.0.2.1:80").contains("untouched"));
}

#[test]
fn faults_carry_code_and_fix() {
    let said = alone(&["bpf", "sets", "--bpffs", "/missing"]);
    assert_eq!(said.status, 1);
    assert_eq!(
        said.err,
        "mesh-agent: MESH042 nothing is pinned in /missing; start the agent\n"
    );
}

#[test]
fn kube_proxys_rules_go_while_an_agent_runs() {
    let scratch = Scratch::new();
    let host = FakeHost {
        worst: CheckLevel::Ok,
    };
    let run_dir = scratch.0.to_str().unwrap();
    let lock = lock::Lock::acquire(&scratch.0, |_| ()).unwrap();
    let flags = ["cleanup", "--kube-proxy-rules", "--run-dir", run_dir];
    let said = command(&host, &flags);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.out.contains("ip kube-proxy, force false"));
    assert!(!said.out.contains("sets_v1"), "nothing of ours goes");
    let said = command(&host, &["cleanup", "--force", "--run-dir", run_dir]);
    assert_eq!(said.status, 2, "force is about kube-proxy");
    drop(lock);
}

#[test]
fn cleanup_leaves_a_running_agent_alone() {
    let scratch = Scratch::new();
    let host = FakeHost {
        worst: CheckLevel::Ok,
    };
    let run_dir = scratch.0.to_str().unwrap();
    let lock = lock::Lock::acquire(&scratch.0, |_| ()).unwrap();
    let said = command(&host, &["cleanup", "--run-dir", run_dir]);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("stop it first"), "{}", said.err);
    let said = command(&host, &["cleanup", "--dry-run", "--run-dir", run_dir]);
    assert!(said.out.contains("WOULD REMOVE") && said.out.contains("sets_v1"));
    drop(lock);
    let said = command(&host, &["cleanup", "--run-dir", run_dir]);
    assert!(said.out.contains("REMOVED") && said.status == 0);
}

#[test]
fn colour_is_for_terminals_and_names_are_escaped() {
    let paint = terminal::Paint(true);
    let checks = Items {
        items: FakeHost {
            worst: CheckLevel::Error,
        }
        .check(&CheckTarget {
            directories: &Directories {
                bpffs: "/a".into(),
                run_dir: "/b".into(),
            },
            cgroup: None,
        }),
    };
    assert!(check::table(&checks, &paint).contains("\u{1b}[31merror\u{1b}[0m"));
    let plain = terminal::Paint(false);
    let text = service::get(&hostile(), &plain);
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(
        text.contains("service 3, set 4") && text.contains("10.0.0.9"),
        "{text}"
    );
    assert!(
        text.contains("a.yaml: Service default/web: spec: bad; mend it"),
        "{text}"
    );
}

fn hostile() -> crate::telemetry::view::ServiceView {
    crate::telemetry::view::ServiceView {
        internal_traffic_policy: Some("Cluster".to_owned()),
        external_traffic_policy: Some("Cluster".to_owned()),
        health_check_node_port: None,
        namespace: "default".to_owned(),
        name: "web\u{1b}[2J".to_owned(),
        service_type: "ClusterIP".to_owned(),
        cluster_ips: vec![Ipv4Addr::new(10, 96, 0, 10).into()],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        ports: vec![ServicePortView {
            name: "\u{1b}[31m".to_owned(),
            protocol: "TCP".to_owned(),
            port: 80,
            family: "IPv4".to_owned(),
            service_id: Some(3),
            set_id: Some(4),
            backends: vec![BackendView {
                id: Some(1),
                address: Ipv4Addr::new(10, 0, 0, 9).into(),
                port: 8080,
                state: "ready".to_owned(),
                generation: Some(1),
                slot: Some(0),
                local_slot: None,
                why: Some("\u{1b}[0m".to_owned()),
            }],
            ..ServicePortView::default()
        }],
        problems: vec![ProblemView {
            file: "a.yaml".to_owned(),
            object: "Service default/web".to_owned(),
            field: "spec".to_owned(),
            reason: "bad".to_owned(),
            fix: "mend it".to_owned(),
        }],
    }
}

#[test]
fn what_clients_outside_ask_for_is_shown() {
    let ip = |last: u8| std::net::IpAddr::from(Ipv4Addr::new(203, 0, 113, last));
    let port = |family: &str| ServicePortView {
        protocol: "TCP".to_owned(),
        port: 80,
        node_port: Some(30080),
        family: family.to_owned(),
        source_ranges: vec!["198.51.100.0/24".to_owned()],
        ..ServicePortView::default()
    };
    let service = crate::telemetry::view::ServiceView {
        internal_traffic_policy: Some("Cluster".to_owned()),
        external_traffic_policy: Some("Cluster".to_owned()),
        health_check_node_port: None,
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        service_type: "LoadBalancer".to_owned(),
        cluster_ips: vec![Ipv4Addr::new(10, 96, 0, 10).into()],
        external_ips: vec![ip(7), ip(8)],
        load_balancer_ips: vec![ip(8), ip(9)],
        ports: vec![port("IPv4"), port("IPv6")],
        problems: Vec::new(),
    };
    let shown = service::get(&service, &terminal::Paint(false));
    for wanted in [
        "external IPs: 203.0.113.7 203.0.113.8\n",
        "load balancer: 203.0.113.8 203.0.113.9\n",
        "node port 30080",
        "load balancer open to 198.51.100.0/24\n",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let items = vec![service];
    let listed = service::list(
        &crate::telemetry::view::Items { items },
        &terminal::Paint(false),
    );
    assert!(
        listed.contains("203.0.113.7,203.0.113.8,203.0.113.9"),
        "{listed}"
    );
    assert!(listed.contains(" 80:30080/TCP "), "{listed}");
}
