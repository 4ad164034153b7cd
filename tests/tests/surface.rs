//! The commands and the servers that users and their tools rely on.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use mesh_lab::{AgentOptions, Call, Families, Needs, Scene, eventually, test};
use serde_json::Value;

fn scene(lab: &mut mesh_lab::Lab) -> Result<Scene> {
    let scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
    scene.settle(scene.any()?)?;
    Ok(scene)
}

/// Every JSON of ours says what it is.
fn ensure_typed(document: &Value) -> Result<()> {
    let version = document["apiVersion"].as_str().context("no apiVersion")?;
    ensure!(version.starts_with("mesh-agent.io/"), "{version}");
    document["kind"].as_str().context("no kind")?;
    Ok(())
}

#[test]
fn every_list_is_json_too_and_plain_when_piped() -> Result<()> {
    test("json", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        let maps = [
            "frontends",
            "services",
            "sets",
            "slots",
            "backends",
            "affinity",
            "sockets",
            "counters",
        ];
        let mut commands: Vec<Vec<&str>> = maps.iter().map(|map| vec!["bpf", *map]).collect();
        commands.extend([
            vec!["status"],
            vec!["check"],
            vec!["check", "--pre"],
            vec!["version"],
            vec!["service", "list"],
            vec!["service", "get", "default/web"],
            vec!["service", "explain", "default/web"],
        ]);
        for command in &commands {
            let table = scene
                .agent
                .cli(command)?
                .ok()
                .with_context(|| format!("{command:?}"))?;
            ensure!(!table.stdout.trim().is_empty(), "{command:?} says nothing");
            ensure!(!table.stdout.contains('\u{1b}'), "{command:?} is coloured");
            let document = scene
                .agent
                .json(command)
                .with_context(|| format!("{command:?}"))?;
            ensure_typed(&document).with_context(|| format!("{command:?}: {document}"))?;
        }
        Ok(())
    })
}

#[test]
fn a_service_shows_its_frontends_and_backends() -> Result<()> {
    test("service", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        let list = scene.agent.cli(&["service", "list"])?.ok()?.stdout;
        ensure!(
            list.contains("web") && list.contains("10.96.0.10"),
            "{list}"
        );
        let get = scene.agent.json(&["service", "get", "default/web"])?;
        let shown = get.to_string();
        for pod in ["web-0", "web-1"] {
            for address in scene.web.addresses_of(pod)? {
                ensure!(
                    shown.contains(&address.to_string()),
                    "{address} is not in {shown}"
                );
            }
        }
        let explain = scene
            .agent
            .cli(&["service", "explain", "default/web"])?
            .ok()?;
        ensure!(!explain.stdout.is_empty(), "explain says nothing");
        let missing = scene.agent.cli(&["service", "get", "default/missing"])?;
        ensure!(missing.status.code() == Some(1), "{missing:?}");
        ensure!(missing.stderr.contains("default/missing"), "{missing:?}");
        ensure!(missing.stdout.is_empty(), "stdout is for data: {missing:?}");
        Ok(())
    })
}

#[test]
fn dumps_agree_with_what_traffic_does() -> Result<()> {
    test("dumps", Needs::Agent, |lab| {
        let mut scene = scene(lab)?;
        let frontends = scene.agent.cli(&["bpf", "frontends"])?.ok()?.stdout;
        for address in ["10.96.0.10", "fd00:10:96::10"] {
            ensure!(frontends.contains(address), "{frontends}");
        }
        let hold = Call::hold(scene.web.v4("dns")?).unconnected();
        let hold = scene.client.place().load(&hold)?.holding()?;
        let sockets = scene.agent.cli(&["bpf", "sockets"])?.ok()?.stdout;
        ensure!(sockets.contains("10.96.0.10"), "{sockets}");
        hold.stop()?;
        // The pins alone will do when no agent runs.
        scene.agent.kill()?;
        let again = scene.one.cli(&["bpf", "frontends"])?.ok()?.stdout;
        ensure!(again == frontends, "{again}\nafter\n{frontends}");
        Ok(())
    })
}

#[test]
fn a_trace_says_where_a_connection_would_go() -> Result<()> {
    test("trace", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        let trace = |to: &str, protocol: &str| -> Result<String> {
            let arguments = ["trace", "--to", to, "--protocol", protocol];
            Ok(scene.agent.cli(&arguments)?.ok()?.stdout)
        };
        let served = trace("10.96.0.10:80", "tcp")?;
        let addresses = [
            scene.web.addresses_of("web-0")?,
            scene.web.addresses_of("web-1")?,
        ]
        .concat();
        let names_one = addresses.iter().any(|it| served.contains(&it.to_string()));
        ensure!(names_one, "{served}");
        let refused = trace("10.96.0.10:81", "tcp")?;
        ensure!(refused.contains("no_such_port"), "{refused}");
        let stranger = trace("192.0.2.1:80", "udp")?;
        ensure!(!stranger.contains("no_such_port"), "{stranger}");
        Ok(())
    })
}

#[test]
fn the_log_level_changes_while_it_runs() -> Result<()> {
    test("log", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        scene.agent.cli(&["log", "debug"])?.ok()?;
        let before = scene.agent.said().len();
        scene.publish()?;
        eventually("it says more", || {
            scene.publish()?;
            scene.source.write("more.json", &[])?;
            scene.source.remove("more.json")?;
            ensure!(scene.agent.said().len() > before, "it says nothing more");
            Ok(())
        })?;
        let wrong = scene.agent.cli(&["log", "loud"])?;
        ensure!(
            !wrong.status.success() && !wrong.stderr.is_empty(),
            "{wrong:?}"
        );
        Ok(())
    })
}

#[test]
fn wrong_usage_is_two_and_no_agent_is_one() -> Result<()> {
    test("usage", Needs::Agent, |lab| {
        let node = lab.node("one", Families::V4)?;
        for wrong in [
            vec!["nonsense"],
            vec!["service"],
            vec!["status", "--nonsense"],
        ] {
            let output = node.cli(&wrong)?;
            ensure!(output.status.code() == Some(2), "{wrong:?}: {output:?}");
        }
        let output = node.cli(&["status"])?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        ensure!(output.stderr.contains("agent.sock"), "{}", output.stderr);
        ensure!(output.stdout.is_empty(), "{}", output.stdout);
        for shell in ["bash", "zsh", "fish"] {
            let script = node
                .host()
                .run(&mesh_lab::agent_binary()?, ["completions", shell])?;
            ensure!(
                script.status.success() && !script.stdout.is_empty(),
                "{script:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn status_waits_until_the_agent_is_ready() -> Result<()> {
    test("status-wait", Needs::Agent, |lab| {
        let node = lab.node("one", Families::V4)?;
        let agent = node.start_agent(&AgentOptions::default())?;
        eventually("the agent answers", || {
            agent.cli(&["status", "--wait", "--timeout", "20"])?.ok()
        })?;
        ensure!(agent.health("/readyz")?.status == 200, "status said ready");
        Ok(())
    })
}

#[test]
fn health_is_what_load_balancers_expect() -> Result<()> {
    test("health", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        for (path, eligible) in [("/healthz", true), ("/livez", false)] {
            let response = scene.agent.health(path)?;
            ensure!(response.status == 200, "{response:?}");
            let kind = response.header("content-type").unwrap_or_default();
            ensure!(kind.starts_with("application/json"), "{response:?}");
            ensure!(
                response.header("x-content-type-options") == Some("nosniff"),
                "{response:?}"
            );
            let body: Value = serde_json::from_str(&response.body)?;
            ensure!(
                body["lastUpdated"].is_string() && body["currentTime"].is_string(),
                "{body}"
            );
            ensure!(
                body.get("nodeEligible").is_some() == eligible,
                "{path}: {body}"
            );
        }
        ensure!(scene.agent.health("/readyz")?.status == 200, "ready");
        ensure!(
            scene.agent.health("/nonsense")?.status == 404,
            "no such path"
        );
        Ok(())
    })
}

#[test]
fn metrics_come_in_both_encodings() -> Result<()> {
    test("metrics", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        let plain = scene.agent.metrics_as(None)?;
        let kind = plain.header("content-type").unwrap_or_default();
        ensure!(
            kind.starts_with("text/plain") && kind.contains("version=0.0.4"),
            "{kind}"
        );
        ensure!(
            !plain.body.contains("# EOF"),
            "the old format has no end mark"
        );
        let open = scene
            .agent
            .metrics_as(Some("application/openmetrics-text; version=1.0.0"))?;
        let kind = open.header("content-type").unwrap_or_default();
        ensure!(kind.starts_with("application/openmetrics-text"), "{kind}");
        ensure!(open.body.ends_with("# EOF\n"), "{}", open.body);
        let metrics = scene.agent.metrics()?;
        for name in [
            "mesh_agent_map_operations_total",
            "mesh_agent_map_entries",
            "mesh_agent_map_capacity",
            "mesh_agent_map_bytes",
            "mesh_agent_socket_connections_total",
            "mesh_agent_drops_total",
            "mesh_agent_programming_duration_seconds_count",
            "mesh_agent_source_problems",
            "mesh_agent_dirty_objects",
            "mesh_agent_build_info",
            "process_resident_memory_bytes",
        ] {
            ensure!(metrics.has(name, &[]), "{name} is missing");
        }
        for reason in [
            "no_endpoints",
            "no_such_port",
            "sockets_full",
            "inconsistent",
        ] {
            let labels = [("reason", reason)];
            ensure!(
                metrics.has("mesh_agent_drops_total", &labels),
                "{reason} is missing"
            );
        }
        Ok(())
    })
}

#[test]
fn forwarded_connections_are_counted_one_by_one() -> Result<()> {
    test("counted", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        let labels = [("result", "forwarded")];
        let name = "mesh_agent_socket_connections_total";
        let before = scene.agent.metrics()?.sum(name, &labels);
        let report = scene
            .client
            .place()
            .call(&Call::connect(scene.any()?).count(100))?;
        ensure!(report.answered == 100, "{report:?}");
        let after = scene.agent.metrics()?.sum(name, &labels);
        ensure!(
            (after - before - 100.0).abs() < 0.5,
            "{} were counted",
            after - before
        );
        Ok(())
    })
}

#[test]
fn what_the_agent_makes_is_for_root_alone() -> Result<()> {
    test("modes", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        let mode = |path: &std::path::Path| -> Result<u32> {
            Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
        };
        ensure!(mode(&scene.one.bpffs())? == 0o700, "bpffs");
        ensure!(
            mode(&scene.one.run_dir().join("agent.sock"))? == 0o600,
            "agent.sock"
        );
        Ok(())
    })
}

#[test]
fn logs_are_json_when_asked() -> Result<()> {
    test("log-json", Needs::Agent, |lab| {
        let node = lab.node("one", Families::V4)?;
        let agent = node.agent_with(&AgentOptions::flags(&["--logging-format", "json"]))?;
        let log = agent.said();
        ensure!(!log.is_empty(), "it says nothing");
        for line in log.lines() {
            let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            ensure!(
                entry.get("ts").is_some() && entry.get("msg").is_some(),
                "{line}"
            );
        }
        Ok(())
    })
}

#[test]
fn refusals_of_run_name_the_flag() -> Result<()> {
    test("run-refuses", Needs::Agent, |lab| {
        let node = lab.node("one", Families::V4)?;
        for (flags, named) in [
            (
                ["--metrics-bind-address", "nonsense"],
                "--metrics-bind-address",
            ),
            (["--source", "ftp:somewhere"], "--source"),
            (["--max-services", "none"], "--max-services"),
            (["--device", "nowhere0"], "MESH062 --device nowhere0"),
        ] {
            let mut agent = node.start_agent(&AgentOptions::flags(&flags))?;
            let status = agent.wait()?;
            ensure!(!status.success(), "{flags:?} was taken");
            ensure!(agent.said().contains(named), "{flags:?}: {}", agent.said());
        }
        Ok(())
    })
}
