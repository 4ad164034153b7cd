//! Random Services by real traffic: the agent leads each client where the model of the API documentation says.
//! `MESH_SEED=N` plays another world.

use anyhow::{Result, ensure};
use mesh_lab::{Asked, Needs, ServiceWorld, test};
use service_model::{Protocol, Way};

/// A datagram whose client's port still talks to the backend by another frontend is refused, or led to another backend
/// (`tuple_in_use`). Hundreds of sockets to few backends meet that now and then; more often than so, and it is something else.
const MOST_AGAIN: usize = 9;

fn may_meet_another_flow(asked: &Asked) -> bool {
    let is_of_packets = asked.is_bare || asked.question.client.way == Way::Outside;
    is_of_packets && asked.question.protocol == Protocol::Udp
}

#[test]
fn real_clients_are_led_where_the_model_says() -> Result<()> {
    test("model", Needs::Files, |lab| {
        let seed = ServiceWorld::seed()?;
        let world = ServiceWorld::new(lab, seed)?;
        lab.source().write("world.json", &world.manifests())?;
        let agent = world.node("one")?.agent()?;
        let mut asked = world.ask_all("one", seed)?;
        asked.retain(|it| !it.agrees);
        let again = asked.iter_mut().filter(|it| may_meet_another_flow(it));
        for it in again.take(MOST_AGAIN) {
            *it = world.ask(&it.question, it.is_bare)?;
        }
        let wrong: Vec<&Asked> = asked.iter().filter(|it| !it.agrees).collect();
        let reason = [("reason", "tuple_in_use")];
        let in_use = agent.metrics()?.sum("mesh_agent_drops_total", &reason);
        println!(
            "{} asked again, {in_use} refused for their ports",
            asked.len()
        );
        ensure!(wrong.is_empty(), "MESH_SEED={seed}: {}", world.tell(&wrong));
        Ok(())
    })
}
