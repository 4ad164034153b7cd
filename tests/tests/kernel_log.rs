//! The programs of a development build say what they decide.

use anyhow::{Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Families, Needs, Scene, ensure_clean, eventually, test, traffic::Failure,
};

#[test]
fn calls_and_refusals_are_in_the_log() -> Result<()> {
    test("kernel-log", Needs::Agent, |lab| {
        let options =
            AgentOptions::second_build()?.flag("--log-level=info,mesh_agent::kernel=debug");
        let scene = Scene::with(lab, Families::Dual, 1, &options)?;
        let place = scene.client.place();
        for to in scene.all("http") {
            scene.settle(to)?;
            ensure_clean(&place.call(&Call::connect(to).count(1))?)?;
            let mut closed = to;
            closed.set_port(81);
            let report = place.call(&Call::connect(closed).count(1))?;
            ensure!(report.failed(Failure::Refused) == 1, "{report:?}");
            let hook = if to.is_ipv4() { "connect4" } else { "connect6" };
            let ip = to.ip();
            for line in [
                format!("{hook} to {ip} port {}: forwarded", to.port()),
                format!("{hook} to {ip} port 81: refused, no_such_port"),
            ] {
                eventually("the log has the line", || {
                    let said = scene.agent.said();
                    ensure!(said.contains(&line), "no {line:?} in {said}");
                    Ok(())
                })?;
            }
        }
        Ok(())
    })
}
