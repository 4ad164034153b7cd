//! The traffic that a change must not harm: new connections of every kind, sockets that go on, connections that stay.

use anyhow::{Context, Result};

use crate::{
    call::{Call, Load},
    scene::{Scene, ensure_clean},
    traffic::Report,
};

/// Background traffic to `web` of a scene: TCP, UDP, both families that there are, from the client and from the host.
#[derive(Debug)]
pub struct Everyday {
    loads: Vec<(String, Load)>,
}

impl Everyday {
    /// Starts it; the connections that stay are open when this returns.
    pub fn start(scene: &Scene) -> Result<Self> {
        Self::with(scene, true)
    }

    /// The same without unconnected sockets that insist on the backend they chose: a downgrade lets them choose anew.
    pub fn without_choices(scene: &Scene) -> Result<Self> {
        Self::with(scene, false)
    }

    fn with(scene: &Scene, choices: bool) -> Result<Self> {
        let mut loads = Vec::new();
        for (tcp, udp) in scene.all("http").into_iter().zip(scene.all("dns")) {
            let new = [
                Call::connect(tcp),
                Call::connect(udp).udp(),
                Call::connect(udp).unconnected(),
                Call::connect(udp).unconnected().flag("--keep-socket"),
            ];
            for call in new {
                let call = call.expect("web-").rate(500);
                loads.push((format!("{call:?}"), scene.client.place().load(&call)?));
            }
            let mut held = vec![Call::hold(tcp), Call::hold(udp).udp()];
            if choices {
                held.push(Call::hold(udp).unconnected());
            }
            for call in held {
                let call = call.expect("web-").option("--connections", 20);
                let load = scene.client.place().load(&call)?.holding()?;
                loads.push((format!("{call:?}"), load));
            }
            let host = Call::connect(tcp).expect("web-").rate(200);
            loads.push((format!("host {host:?}"), scene.one.host().load(&host)?));
        }
        Ok(Self { loads })
    }

    /// New connections and sockets alone: for changes that take backends away for good.
    pub fn without_held(scene: &Scene) -> Result<Self> {
        let mut loads = Vec::new();
        for (tcp, udp) in scene.all("http").into_iter().zip(scene.all("dns")) {
            let new = [
                Call::connect(tcp).option("--parallel", 2),
                Call::connect(udp).udp().rate(1000),
                Call::connect(udp).unconnected().rate(1000),
                Call::connect(udp)
                    .unconnected()
                    .flag("--keep-socket")
                    .rate(1000),
            ];
            for call in new {
                let call = call.expect("web-");
                loads.push((format!("{call:?}"), scene.client.place().load(&call)?));
            }
        }
        Ok(Self { loads })
    }

    /// Ends it; fails if one connection was refused, lost, misdirected or late.
    pub fn stop_clean(self) -> Result<Vec<Report>> {
        let mut reports = Vec::new();
        let mut outcome = Ok(());
        for (title, load) in self.loads {
            let report = load.stop().with_context(|| title.clone())?;
            let clean = ensure_clean(&report).with_context(|| title);
            outcome = outcome.and(clean);
            reports.push(report);
        }
        outcome.map(|()| reports)
    }
}
