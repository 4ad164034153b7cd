//! Somebody else changes the agent's maps: the periodic check finds it, says so, puts it right, and harms nobody else.

use anyhow::{Result, ensure};
use mesh_common::{FrontendValue, SetWord};
use mesh_lab::{
    AgentOptions, Call, Deployment, Families, Lab, Load, Needs, PinnedMaps, Scene, ensure_clean,
    eventually, frontend_key, settle, test, web_ports,
};

const SAID: &str = "the kernel holds something else than was written";

/// A scene whose agent compares often, and a Service beside `web` that is under load all the time.
struct Spoilt {
    scene: Scene,
    maps: PinnedMaps,
    other: Deployment,
    loads: Vec<Load>,
    /// Differences made so far: each is to be found once.
    made: f64,
}

impl Spoilt {
    fn new(lab: &mut Lab) -> Result<Self> {
        let options = AgentOptions::flags(&["--audit-interval", "300ms"]);
        let scene = Scene::with(lab, Families::Dual, 4, &options)?;
        let mut other = Deployment::new("other", &["10.96.0.20"], &web_ports())?;
        for number in 0..2 {
            other.add(&scene.two.pod(&format!("other-{number}"))?)?;
        }
        other.publish(&scene.source)?;
        let client = scene.client.place();
        settle(&client, other.v4("http")?, &other.ready())?;
        scene.settle(scene.any()?)?;
        let (tcp, udp) = (other.v4("http")?, other.v4("dns")?);
        let mut loads = Vec::new();
        for call in [
            Call::connect(tcp).rate(500),
            Call::connect(udp).unconnected().rate(500),
            Call::hold(tcp).option("--connections", 10),
            Call::hold(udp).unconnected().option("--connections", 10),
        ] {
            loads.push(client.load(&call.expect("other-"))?);
        }
        Ok(Self {
            maps: PinnedMaps::of(&scene.one),
            scene,
            other,
            loads,
            made: 0.0,
        })
    }

    /// One more difference in a map: it is found once and reported, and every Service answers as it should.
    fn repaired(&mut self, map: &str) -> Result<()> {
        self.made += 1.0;
        eventually("the difference is found", || {
            let found = self.repairs(&[])?;
            ensure!(found >= self.made, "{found} of {}", self.made);
            Ok(())
        })?;
        for to in self.scene.all("http") {
            self.scene.settle(to)?;
        }
        let (all, here) = (self.repairs(&[])?, self.repairs(&[("map", map)])?);
        ensure!(all == self.made, "{all} repairs of {}", self.made);
        ensure!(here > 0.0, "none of them in {map}");
        let said = self.scene.agent.said();
        let told = said
            .lines()
            .any(|line| line.contains(SAID) && line.contains(map));
        ensure!(told, "no line tells of {map}: {said}");
        let status = self.scene.agent.health("/readyz")?;
        ensure!(status.status == 200, "{status:?}");
        Ok(())
    }

    fn repairs(&self, labels: &[(&str, &str)]) -> Result<f64> {
        let metrics = self.scene.agent.metrics()?;
        ensure!(metrics.has("mesh_agent_repairs_total", labels), "no metric");
        Ok(metrics.sum("mesh_agent_repairs_total", labels))
    }

    /// What the kernel holds for the Service beside: frontend, and the word of its set.
    fn other(&self) -> Result<(FrontendValue, SetWord)> {
        let frontend = self.maps.frontend(self.other.v4("http")?)?;
        Ok((frontend, self.maps.set(frontend.cluster())?))
    }

    fn finish(self) -> Result<()> {
        for load in self.loads {
            ensure_clean(&load.stop()?)?;
        }
        Ok(())
    }
}

#[test]
fn what_another_hand_changed_is_put_right() -> Result<()> {
    test("audit", Needs::Agent, |lab| {
        let mut spoilt = Spoilt::new(lab)?;
        let before = spoilt.other()?;
        let (maps, web) = (spoilt.maps.clone(), spoilt.scene.any()?);

        maps.remove_frontend(&frontend_key(web))?;
        spoilt.repaired("frontends")?;

        let set = maps.frontend(web)?.cluster();
        maps.store("sets", [(set, SetWord::EMPTY.word())])?;
        spoilt.repaired("sets")?;

        // The neighbour's region: connections would be misdirected.
        let set = maps.frontend(web)?.cluster();
        maps.store("sets", [(set, before.1.word())])?;
        spoilt.repaired("sets")?;

        // Past the end of every region.
        maps.store("sets", [(set, SetWord::new(u32::MAX - 7, 8).word())])?;
        spoilt.repaired("sets")?;

        let slot = maps.set(maps.frontend(web)?.cluster())?.base();
        maps.store("slots", [(slot, 0)])?;
        spoilt.repaired("slots")?;

        // Another's pod.
        let member =
            |set: SetWord| -> Result<u32> { Ok(maps.word("slots", set.base())?.try_into()?) };
        let own = member(maps.set(maps.frontend(web)?.cluster())?)?;
        maps.put_backend(own, &maps.backend(member(before.1)?)?)?;
        spoilt.repaired("backends")?;

        // Affinity that nobody asked for.
        maps.store("services", [(maps.frontend(web)?.service(), 3600)])?;
        spoilt.repaired("services")?;

        ensure!(spoilt.other()? == before, "the neighbour was touched");
        spoilt.finish()
    })
}

#[test]
fn a_foreign_frontend_is_taken_out() -> Result<()> {
    test("audit-foreign", Needs::Agent, |lab| {
        let mut spoilt = Spoilt::new(lab)?;
        let (maps, web) = (spoilt.maps.clone(), spoilt.scene.any()?);
        let before = maps.frontends()?;
        let value = maps.frontend(web)?;

        let stranger = frontend_key("10.96.0.99:80".parse()?);
        for value in [
            value,
            FrontendValue::new(u32::MAX, u32::MAX, 0),
            FrontendValue::refuse(),
        ] {
            maps.put_frontend(&stranger, &value)?;
            spoilt.repaired("frontends")?;
            eventually("the stranger is gone", || {
                let now = maps.frontends()?;
                ensure!(now.keys().eq(before.keys()), "{now:?}");
                Ok(())
            })?;
        }

        // The right key with another's Service behind it.
        let (other, _) = spoilt.other()?;
        maps.put_frontend(&frontend_key(web), &other)?;
        spoilt.repaired("frontends")?;
        spoilt.finish()
    })
}
