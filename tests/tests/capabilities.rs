//! The agent with the capabilities that its manifest gives it, and without the one that clusters like to refuse.

use anyhow::{Result, ensure};
use mesh_lab::{AgentOptions, Condition, Everyday, Families, Lab, Needs, Scene, test};
use serde_json::Value;

/// As in manifests/base/daemon-set.yaml.
const ALL: [&str; 5] = ["bpf", "net_admin", "perfmon", "net_broadcast", "sys_admin"];

/// What `check` finds under a code.
fn finding(scene: &Scene, code: &str) -> Result<Value> {
    // Some other finding may well be an error here; the exit status is of no interest.
    let output = scene.agent.cli(&["check", "-o", "json"])?;
    let list: Value = serde_json::from_str(&output.stdout)?;
    let items = list["items"].as_array().into_iter().flatten();
    let found = items.into_iter().find(|item| item["code"] == code);
    found
        .cloned()
        .ok_or_else(|| anyhow::anyhow!("no {code} in {}{}", output.stdout, output.stderr))
}

/// Traffic, changes, a death and a take-over.
fn works(lab: &mut Lab, capabilities: &[&str]) -> Result<Scene> {
    let options = AgentOptions::capabilities(capabilities);
    let mut scene = Scene::with(lab, Families::Dual, 4, &options)?;
    for to in scene.all("http") {
        scene.settle(to)?;
    }
    let traffic = Everyday::start(&scene)?;
    scene.agent.kill()?;
    scene.agent = scene.one.agent_with(&options)?;
    scene.web.set("web-3", Condition::Unready)?;
    scene.publish()?;
    traffic.stop_clean()?;
    for arguments in [&["bpf", "counters"][..], &["service", "list"], &["status"]] {
        scene.agent.cli(arguments)?.ok()?;
    }
    Ok(scene)
}

#[test]
fn the_manifests_capabilities_are_enough() -> Result<()> {
    test("caps-five", Needs::Agent, |lab| {
        let scene = works(lab, &ALL)?;
        let privileges = finding(&scene, "MESH001")?;
        ensure!(privileges["level"] == "ok", "{privileges}");
        Ok(())
    })
}

#[test]
fn without_sys_admin_it_works_and_check_names_what_is_lost() -> Result<()> {
    test("caps-four", Needs::Agent, |lab| {
        let scene = works(lab, &ALL[..4])?;
        let privileges = finding(&scene, "MESH001")?;
        ensure!(privileges["level"] == "warn", "{privileges}");
        let what = privileges["what"].as_str().unwrap_or_default();
        ensure!(what.contains("CAP_SYS_ADMIN"), "{privileges}");
        // Its own programs are known by their pins, so nobody is taken for a stranger.
        let others = finding(&scene, "MESH011")?;
        ensure!(others["level"] == "ok", "{others}");
        Ok(())
    })
}

#[test]
fn what_is_left_can_be_taken_over_with_less_and_with_more() -> Result<()> {
    test("caps-change", Needs::Agent, |lab| {
        let mut scene = works(lab, &ALL[..4])?;
        let traffic = Everyday::start(&scene)?;
        for capabilities in [&ALL[..], &ALL[..4]] {
            let said = scene.agent.cli(&["bpf", "backends", "-o", "json"])?.ok()?;
            scene.agent.terminate()?;
            scene.agent = scene
                .one
                .agent_with(&AgentOptions::capabilities(capabilities))?;
            let after = scene.agent.cli(&["bpf", "backends", "-o", "json"])?.ok()?;
            ensure!(said.stdout == after.stdout, "the tables were made anew");
        }
        traffic.stop_clean().map(drop)
    })
}

#[test]
fn without_the_right_to_load_programs_it_says_so_and_ends() -> Result<()> {
    test("caps-none", Needs::Agent, |lab| {
        let node = lab.node("one", Families::Dual)?;
        let mut agent = node.start_agent(&AgentOptions::capabilities(&["net_admin"]))?;
        let status = agent.wait()?;
        ensure!(!status.success(), "it ran");
        let said = agent.said();
        ensure!(
            said.contains("MESH001") && said.contains("CAP_BPF, CAP_PERFMON"),
            "{said}"
        );
        Ok(())
    })
}
