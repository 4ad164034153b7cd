//! `cleanup` leaves the host as it was; its dry run changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Families, Needs, Node, Scene, eventually, test, traffic::Failure,
};

fn tree(path: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

#[test]
fn a_dry_run_names_everything_and_changes_nothing() -> Result<()> {
    test("cleanup-dry", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        scene.agent.terminate()?;
        let before = (tree(&scene.one.bpffs()), tree(&scene.one.run_dir()));
        ensure!(!before.0.is_empty(), "nothing is pinned");
        let output = scene.one.cli(&["cleanup", "--dry-run"])?.ok()?;
        let after = (tree(&scene.one.bpffs()), tree(&scene.one.run_dir()));
        ensure!(before == after, "{before:?}, then {after:?}");
        for pin in before.0.iter().filter(|path| path.is_file()) {
            let name = pin.file_name().unwrap_or_default().to_string_lossy();
            ensure!(
                output.stdout.contains(&*name),
                "{name} is not in:\n{}",
                output.stdout
            );
        }
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        Ok(())
    })
}

#[test]
fn nothing_is_left() -> Result<()> {
    test("cleanup", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        scene.agent.terminate()?;
        scene.one.cli(&["cleanup"])?.ok()?;
        ensure!(
            !scene.one.bpffs().exists(),
            "{:?}",
            tree(&scene.one.bpffs())
        );
        ensure!(
            !scene.one.run_dir().exists(),
            "{:?}",
            tree(&scene.one.run_dir())
        );
        for to in scene.all("http") {
            let call = Call::connect(to).count(1).option("--timeout", 300);
            let report = scene.client.place().call(&call)?;
            let missed = report.failed(Failure::Unreachable) + report.failed(Failure::Timeout);
            ensure!(missed == 1, "still translated: {report:?}");
        }
        // Once more finds nothing and is content, and an agent starts as on a new host.
        scene.one.cli(&["cleanup"])?.ok()?;
        scene.agent = scene.one.agent()?;
        scene.settle(scene.any()?)
    })
}

/// What others pinned or attached is theirs.
#[test]
fn what_is_not_ours_stays() -> Result<()> {
    test("cleanup-others", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        scene.agent.terminate()?;
        let note = scene.one.run_dir().join("somebody's-note");
        fs::write(&note, "not ours")?;
        let output = scene.one.cli(&["cleanup"])?;
        ensure!(note.exists(), "{}{}", output.stdout, output.stderr);
        ensure!(
            !scene.one.bpffs().exists(),
            "{:?}",
            tree(&scene.one.bpffs())
        );
        Ok(())
    })
}

#[test]
fn an_agent_that_was_killed_is_cleaned_up_after() -> Result<()> {
    test("cleanup-killed", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        scene.agent.kill()?;
        scene.one.cli(&["cleanup"])?.ok()?;
        eventually("nothing is left", || {
            ensure!(
                !scene.one.bpffs().exists(),
                "{:?}",
                tree(&scene.one.bpffs())
            );
            ensure!(
                !scene.one.run_dir().exists(),
                "{:?}",
                tree(&scene.one.run_dir())
            );
            Ok(())
        })
    })
}

fn close_wait(node: &Node) -> Result<String> {
    let path = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
    let output = node.host().run(Path::new("/bin/cat"), [path])?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[test]
fn conntracks_timeouts_are_set_and_put_back() -> Result<()> {
    test("cleanup-timeouts", Needs::Agent, |lab| {
        let node = lab.node("one", Families::V4)?;
        let before = close_wait(&node)?;
        for wanted in ["1234", "2345"] {
            let flag = format!("--conntrack-tcp-timeout-close-wait={wanted}s");
            let mut agent = node.agent_with(&AgentOptions::flags(&[flag]))?;
            eventually("the timeout is as wanted", || {
                let found = close_wait(&node)?;
                ensure!(found == wanted, "{found}");
                Ok(())
            })?;
            agent.terminate()?;
        }
        let output = node.cli(&["cleanup"])?.ok()?;
        ensure!(close_wait(&node)? == before, "{}", output.stdout);
        ensure!(!node.run_dir().exists(), "{}", output.stdout);
        Ok(())
    })
}
