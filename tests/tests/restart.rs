//! The agent dies, ends, comes back and is handed over, all under load: traffic goes on as last programmed.

use anyhow::{Result, ensure};
use mesh_lab::{AgentOptions, Condition, Everyday, Needs, Scene, eventually, test};

#[test]
fn killing_and_restarting_the_agent_is_not_noticed() -> Result<()> {
    test("kill", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        let traffic = Everyday::start(&scene)?;
        for _ in 0..3 {
            scene.agent.kill()?;
            scene.settle(scene.any()?)?;
            scene.agent = scene.one.agent()?;
        }
        traffic.stop_clean().map(drop)
    })
}

/// At whatever point of its start the agent dies, the next start makes good.
#[test]
fn an_agent_that_is_killed_while_it_starts_harms_nothing() -> Result<()> {
    test("kill-start", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        let traffic = Everyday::start(&scene)?;
        scene.agent.kill()?;
        for milliseconds in [0, 1, 2, 5, 10, 20, 40, 80, 160, 320] {
            let mut agent = scene.one.start_agent(&AgentOptions::default())?;
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            agent.kill()?;
        }
        scene.agent = scene.one.agent()?;
        scene.web.set("web-3", Condition::Unready)?;
        scene.publish()?;
        traffic.stop_clean().map(drop)
    })
}

#[test]
fn an_agent_that_is_ended_leaves_the_datapath_in_force() -> Result<()> {
    test("term", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        let traffic = Everyday::start(&scene)?;
        let status = scene.agent.terminate()?;
        ensure!(status.success(), "{status}: {}", scene.agent.said());
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        scene.agent = scene.one.agent()?;
        traffic.stop_clean().map(drop)
    })
}

#[test]
fn what_changed_while_no_agent_ran_is_made_good() -> Result<()> {
    test("changes", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        scene.agent.kill()?;
        let before = scene.web.ready();
        scene.web.set("web-0", Condition::Gone)?;
        scene.web.set("web-1", Condition::Unready)?;
        scene.web.add(&scene.two.pod("web-late")?)?;
        scene.web.publish(&scene.source)?;
        mesh_lab::settle(&scene.client.place(), scene.any()?, &before)?;
        scene.agent = scene.one.agent()?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        Ok(())
    })
}

#[test]
fn a_service_that_went_while_no_agent_ran_is_removed() -> Result<()> {
    test("removed", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        scene.agent.kill()?;
        scene.source.remove("web.json")?;
        scene.agent = scene.one.agent()?;
        let frontends = scene.agent.cli(&["bpf", "frontends"])?.ok()?;
        ensure!(
            !frontends.stdout.contains("10.96.0.10"),
            "{}",
            frontends.stdout
        );
        Ok(())
    })
}

#[test]
fn a_second_agent_waits_and_takes_over() -> Result<()> {
    test("hand-over", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        let traffic = Everyday::start(&scene)?;
        let second = scene.one.start_agent(&AgentOptions::default())?;
        let first = scene.agent.pid().to_string();
        eventually("the second says whom it waits for", || {
            ensure!(second.is_running()?, "it ended:\n{}", second.said());
            ensure!(
                second.said().contains(&first),
                "it says:\n{}",
                second.said()
            );
            Ok(())
        })?;
        // The first is still the one in charge.
        scene.web.set("web-0", Condition::Unready)?;
        scene.publish()?;
        ensure!(scene.agent.terminate()?.success(), "{}", scene.agent.said());
        second.wait_ready()?;
        scene.agent = second;
        scene.web.set("web-0", Condition::Ready)?;
        scene.publish()?;
        traffic.stop_clean().map(drop)
    })
}

/// A file that broke while no agent ran holds what was in force: that stays until the file can be read.
#[test]
fn a_file_that_is_broken_at_the_start_takes_nothing_away() -> Result<()> {
    test("broken", Needs::Files, |lab| {
        let mut scene = Scene::settled(lab)?;
        let traffic = Everyday::start(&scene)?;
        scene.agent.kill()?;
        let good = std::fs::read(lab.manifests().join("web.json"))?;
        scene.source.write_raw("web.json", b"{")?;
        scene.agent = scene.one.agent()?;
        ensure!(
            scene.agent.said().contains("web.json"),
            "{}",
            scene.agent.said()
        );
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        scene.source.write_raw("web.json", &good)?;
        scene.web.set("web-0", Condition::Unready)?;
        scene.publish()?;
        traffic.stop_clean().map(drop)
    })
}

/// An agent that cannot read its source leaves everything as it is and says so.
#[test]
fn an_agent_without_its_source_changes_nothing() -> Result<()> {
    test("no-source", Needs::Files, |lab| {
        let mut scene = Scene::settled(lab)?;
        scene.agent.kill()?;
        let missing = lab.files().join("missing");
        let flags = ["--source".to_owned(), format!("dir:{}", missing.display())];
        let mut agent = scene.one.start_agent(&AgentOptions::flags(&flags))?;
        eventually("the agent has ended or is not ready", || {
            let unready = agent.health("/readyz").is_ok_and(|it| it.status == 503);
            ensure!(unready || !agent.is_running()?, "it took the source");
            ensure!(agent.said().contains("missing"), "{}", agent.said());
            Ok(())
        })?;
        agent.kill()?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        Ok(())
    })
}
