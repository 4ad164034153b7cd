//! The agent is killed, stopped, upgraded and taken back while packets are translated: no connection notices, and none
//! moves to another backend.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    Agent, AgentOptions, Attached, Call, Load, Many, Needs, Node, Outside, Place, ensure_clean,
    eventually, test,
};

/// New connections and datagrams, and such as stay, from outside and from a pod without socket hooks.
struct Traffic(Vec<(String, Load)>);

impl Traffic {
    fn start(outside: &Outside) -> Result<Self> {
        let (client, inside) = (outside.client(), outside.inside()?);
        let mut loads = Vec::new();
        from(
            &client,
            &outside.node_ports(80),
            &outside.node_ports(80),
            &mut loads,
        )?;
        let (tcp, udp) = (outside.scene.all("http"), outside.scene.all("dns"));
        from(&inside, &tcp, &udp, &mut loads)?;
        Ok(Self(loads))
    }

    /// Ends it: nothing failed, and nobody but those who had a connection answered on it.
    fn stop_clean(self) -> Result<()> {
        let mut answered = 0;
        for (title, load) in self.0 {
            let report = load.stop().with_context(|| title.clone())?;
            ensure_clean(&report).with_context(|| title.clone())?;
            answered += report.answered;
        }
        eprintln!("{answered} connections, datagrams and exchanges, 0 failed");
        Ok(())
    }
}

fn from(
    place: &Place,
    tcp: &[SocketAddr],
    udp: &[SocketAddr],
    loads: &mut Vec<(String, Load)>,
) -> Result<()> {
    let of = |verb: fn(SocketAddr) -> Call, to: &[SocketAddr]| {
        let more = to[1..].iter();
        more.fold(verb(to[0]), |call, to| call.also(*to))
            .expect("web-")
    };
    let new = [of(Call::connect, tcp), of(Call::connect, udp).udp()];
    for call in new {
        let call = call.rate(300);
        loads.push((format!("{call:?}"), place.load(&call)?));
    }
    for call in [of(Call::hold, tcp), of(Call::hold, udp).udp()] {
        let call = call.option("--connections", 40);
        let load = place.load(&call)?.holding()?;
        loads.push((format!("{call:?}"), load));
    }
    Ok(())
}

/// What is new is served while nobody is in charge.
fn serves(outside: &Outside) -> Result<()> {
    for to in outside.node_ports(80) {
        ensure_clean(&outside.client().call(&Call::connect(to).count(20))?)?;
    }
    Ok(())
}

fn ended(agent: &mut Agent) -> Result<()> {
    let status = agent.terminate()?;
    ensure!(status.success(), "{status}: {}", agent.said());
    Ok(())
}

#[test]
fn agents_are_killed_ten_times() -> Result<()> {
    test("packet-kill", Needs::Agent, |lab| {
        let mut outside = Outside::settled(lab, 4)?;
        let traffic = Traffic::start(&outside)?;
        for _ in 0..10 {
            outside.scene.agent.kill()?;
            outside.far.kill()?;
            serves(&outside)?;
            outside.scene.agent = outside.scene.one.agent()?;
            outside.far = outside.scene.two.agent()?;
        }
        traffic.stop_clean()
    })
}

#[test]
fn agents_are_stopped_and_started() -> Result<()> {
    test("packet-stop", Needs::Agent, |lab| {
        let mut outside = Outside::settled(lab, 4)?;
        let traffic = Traffic::start(&outside)?;
        for _ in 0..3 {
            ended(&mut outside.scene.agent)?;
            ended(&mut outside.far)?;
            serves(&outside)?;
            outside.scene.agent = outside.scene.one.agent()?;
            outside.far = outside.scene.two.agent()?;
        }
        traffic.stop_clean()
    })
}

#[test]
fn a_new_layout_and_back() -> Result<()> {
    test("packet-upgrade", Needs::NextAgent, |lab| {
        let mut outside = Outside::settled(lab, 4)?;
        // They came later than the one that is called, but a layout that gives out its numbers anew meets them first.
        for number in 0..3 {
            let others = Many {
                services: 3,
                endpoints: 4,
            };
            let file = format!("other-{number}.json");
            outside.scene.source.write(&file, &others.objects(number))?;
        }
        let traffic = Traffic::start(&outside)?;
        for _ in 0..2 {
            for options in [AgentOptions::second_build()?, AgentOptions::default()] {
                ended(&mut outside.scene.agent)?;
                ended(&mut outside.far)?;
                outside.scene.agent = outside.scene.one.agent_with(&options)?;
                outside.far = outside.scene.two.agent_with(&options)?;
                serves(&outside)?;
            }
        }
        for agent in [&outside.scene.agent, &outside.far] {
            eventually("flows hold the new tables' ids", || {
                let said = agent.said();
                ensure!(said.contains("the ids of the new tables"), "{said}");
                Ok(())
            })?;
        }
        serves(&outside)?;
        traffic.stop_clean()
    })
}

/// Waits until the kernel runs nothing of ours at a node's interfaces, and nothing is pinned.
fn nothing_left(node: &Node) -> Result<()> {
    eventually("nothing is left", || {
        let left = Attached::all(&node.host())?;
        ensure!(left.is_empty(), "{left:?}");
        let pins = node.bpffs();
        ensure!(!pins.exists(), "{} is there", pins.display());
        Ok(())
    })
}

#[test]
fn cleanup_leaves_nothing() -> Result<()> {
    test("packet-cleanup", Needs::NextAgent, |lab| {
        let mut outside = Outside::settled(lab, 2)?;
        let second = AgentOptions::second_build()?;
        ended(&mut outside.scene.agent)?;
        outside.scene.agent = outside.scene.one.agent_with(&second)?;
        serves(&outside)?;
        ended(&mut outside.scene.agent)?;
        ended(&mut outside.far)?;
        for node in [&outside.scene.one, &outside.scene.two] {
            ensure!(!Attached::all(&node.host())?.is_empty(), "nothing stayed");
            node.cli(&["cleanup"])?.ok()?;
            nothing_left(node)?;
        }
        Ok(())
    })
}
