//! The agent is killed a hundred times, half of them while it starts, under new connections and long ones: not one of
//! them notices.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Condition, Families, Lab, Load, Needs, Scene, ensure_clean, test,
    traffic::Report,
};

const KILLS: u32 = 100;
/// New connections a second, in all.
const RATE: u64 = 2_000;
const THREADS: u64 = 4;
/// Connections that stay open for the whole test.
const LONG: u64 = 500;
/// Kills from one change of endpoints to the next.
const CHANGE_EVERY: u32 = 10;

/// New connections, and those that stay.
struct Traffic {
    new: Load,
    long: Load,
}

impl Traffic {
    fn start(scene: &Scene) -> Result<Self> {
        let (to, place) = (scene.any()?, scene.client.place());
        let long = Call::hold(to)
            .expect("web-")
            .option("--connections", LONG / THREADS)
            .option("--parallel", THREADS)
            .option("--interval", 500);
        let long = place.load(&long)?.holding()?;
        let new = Call::connect(to)
            .expect("web-")
            .option("--parallel", THREADS)
            .rate(RATE / THREADS);
        let new = place.load(&new)?;
        Ok(Self { new, long })
    }

    fn stop_clean(self) -> Result<()> {
        let (new, long) = (self.new.stop()?, self.long.stop()?);
        println!(
            "{KILLS} kills: {} new connections and {} requests on {LONG} long ones, {} and {} failed",
            new.attempts,
            long.attempts,
            failures(&new),
            failures(&long),
        );
        ensure_clean(&new)?;
        ensure_clean(&long)?;
        ensure!(new.attempts > u64::from(KILLS), "too little traffic");
        ensure!(long.attempts > LONG, "the long connections were not asked");
        Ok(())
    }
}

fn failures(report: &Report) -> u64 {
    report.errors.values().sum()
}

/// Kills an agent that is at work; every other time the next one too, at a moment of its start.
fn kill(scene: &mut Scene, number: u32) -> Result<()> {
    scene.agent.kill()?;
    scene.agent = scene.one.start_agent(&AgentOptions::default())?;
    if number.is_multiple_of(2) {
        return scene.agent.wait_ready();
    }
    std::thread::sleep(Duration::from_millis(u64::from(number * 7 % 300)));
    Ok(())
}

fn scene(lab: &mut Lab) -> Result<Scene> {
    lab.use_control_plane()?;
    let scene = Scene::with(lab, Families::V4, 4, &AgentOptions::default())?;
    scene.settle(scene.any()?)?;
    Ok(scene)
}

#[test]
fn a_hundred_kills_are_not_noticed() -> Result<()> {
    test("kills", Needs::ControlPlane, |lab| {
        let mut scene = scene(lab)?;
        let traffic = Traffic::start(&scene)?;
        for number in 1..=KILLS {
            kill(&mut scene, number)?;
            if number.is_multiple_of(CHANGE_EVERY) {
                let condition = match number / CHANGE_EVERY % 2 {
                    0 => Condition::Ready,
                    _ => Condition::Unready,
                };
                scene.web.set("web-0", condition)?;
                scene.publish()?;
            }
        }
        scene.agent.wait_ready()?;
        traffic.stop_clean()
    })
}
