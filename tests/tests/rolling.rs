//! Every endpoint of a Service is replaced while it is under load: nobody is refused, nobody is sent astray.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use mesh_lab::{AgentOptions, Condition, Everyday, Families, Needs, Scene, test};

/// How long a pod goes on when it gets no new connections any more: longer than a connection of the load takes. With the pod
/// the connections end that it still has.
const GRACE: Duration = Duration::from_secs(1);

/// As a Deployment does it: one more, then one less; the old one terminates before it goes.
fn replace(scene: &mut Scene, number: usize) -> Result<()> {
    let node = if number.is_multiple_of(2) {
        &scene.one
    } else {
        &scene.two
    };
    let young = node.pod(&format!("web-new-{number}"))?;
    let old = format!("web-{number}");
    scene.web.add(&young)?;
    scene.publish()?;
    scene.web.set(&old, Condition::Terminating)?;
    scene.publish()?;
    thread::sleep(GRACE);
    scene.web.set(&old, Condition::Gone)?;
    scene.publish()?;
    scene.forgotten(&old)?;
    scene.web.stop(&old)
}

#[test]
fn replacing_every_endpoint_is_not_noticed() -> Result<()> {
    test("rolling", Needs::Agent, |lab| {
        let pods = 4;
        let options = AgentOptions::default();
        let mut scene = Scene::with(lab, Families::Dual, pods, &options)?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let traffic = Everyday::without_held(&scene)?;
        for number in 0..pods {
            replace(&mut scene, number)?;
        }
        for report in traffic.stop_clean()? {
            let young = report
                .backends
                .keys()
                .any(|name| name.starts_with("web-new-"));
            ensure!(young, "the load saw the change: {report:?}");
        }
        Ok(())
    })
}

#[test]
fn scaling_to_one_and_back_is_not_noticed() -> Result<()> {
    test("scaling", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 1, &AgentOptions::default())?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        let traffic = Everyday::without_held(&scene)?;
        // Far enough for the set to grow out of its region more than once.
        let names: Vec<String> = (1..20).map(|number| format!("web-{number}")).collect();
        for pod in scene.two.pods(&names)? {
            scene.web.add(&pod)?;
            scene.web.publish(&scene.source)?;
        }
        scene.settle(scene.any()?)?;
        for condition in [Condition::Terminating, Condition::Gone] {
            for name in &names {
                scene.web.set(name, condition)?;
                scene.web.publish(&scene.source)?;
            }
            scene.settle(scene.any()?)?;
            thread::sleep(GRACE);
        }
        for name in &names {
            scene.forgotten(name)?;
            scene.web.stop(name)?;
        }
        traffic.stop_clean().map(drop)
    })
}
