//! Another build with another layout of the maps, and back, under load.

use anyhow::{Result, ensure};
use mesh_lab::{AgentOptions, Condition, Everyday, Families, Needs, Scene, test};

fn pins(scene: &Scene) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(scene.one.bpffs())?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn replace(scene: &mut Scene, options: &AgentOptions, condition: Condition) -> Result<()> {
    ensure!(scene.agent.terminate()?.success(), "{}", scene.agent.said());
    scene.agent = scene.one.agent_with(options)?;
    scene.web.set("web-0", condition)?;
    scene.publish()
}

#[test]
fn a_new_layout_and_back_is_not_noticed() -> Result<()> {
    test("upgrade", Needs::NextAgent, |lab| {
        let mut scene = Scene::new(lab, Families::Dual)?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let first = pins(&scene)?;
        for _ in 0..2 {
            let traffic = Everyday::start(&scene)?;
            replace(
                &mut scene,
                &AgentOptions::second_build()?,
                Condition::Unready,
            )?;
            traffic.stop_clean()?;
            // Ids mean nothing to the version before: unconnected sockets choose anew, once.
            let traffic = Everyday::without_choices(&scene)?;
            replace(&mut scene, &AgentOptions::default(), Condition::Ready)?;
            traffic.stop_clean()?;
        }
        let last = pins(&scene)?;
        ensure!(first == last, "pins were left: {first:?}, then {last:?}");
        Ok(())
    })
}

#[test]
fn a_new_layout_has_pins_of_its_own() -> Result<()> {
    test("upgrade-pins", Needs::NextAgent, |lab| {
        let mut scene = Scene::new(lab, Families::V4)?;
        let first = pins(&scene)?;
        scene.agent.kill()?;
        scene.agent = scene.one.agent_with(&AgentOptions::second_build()?)?;
        scene.settle(scene.any()?)?;
        let second = pins(&scene)?;
        ensure!(first != second, "nothing changed: {second:?}");
        Ok(())
    })
}

#[test]
fn an_upgrade_that_is_killed_half_way_is_made_good() -> Result<()> {
    test("upgrade-kill", Needs::NextAgent, |lab| {
        let mut scene = Scene::new(lab, Families::Dual)?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        // Half of what is killed are downgrades, after which unconnected sockets choose anew.
        let traffic = Everyday::without_choices(&scene)?;
        scene.agent.kill()?;
        for milliseconds in [1, 5, 10, 20, 40, 80, 160, 320] {
            for options in [AgentOptions::second_build()?, AgentOptions::default()] {
                let mut agent = scene.one.start_agent(&options)?;
                std::thread::sleep(std::time::Duration::from_millis(milliseconds));
                agent.kill()?;
            }
        }
        scene.agent = scene.one.agent_with(&AgentOptions::second_build()?)?;
        scene.web.set("web-0", Condition::Unready)?;
        scene.publish()?;
        traffic.stop_clean().map(drop)
    })
}
