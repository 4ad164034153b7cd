//! Random Services by real traffic: the agent leads each client where the model of the API documentation says.
//! `MESH_SEED=N` plays another world.

use anyhow::{Result, ensure};
use mesh_lab::{Asked, Needs, ServiceWorld, test};

#[test]
fn real_clients_are_led_where_the_model_says() -> Result<()> {
    test("model", Needs::Files, |lab| {
        let seed = ServiceWorld::seed()?;
        let world = ServiceWorld::new(lab, seed)?;
        lab.source().write("world.json", &world.manifests())?;
        let _agent = world.node("one")?.agent()?;
        let asked = world.ask_all("one", seed)?;
        let wrong: Vec<&Asked> = asked.iter().filter(|it| !it.agrees).collect();
        ensure!(wrong.is_empty(), "MESH_SEED={seed}: {}", world.tell(&wrong));
        Ok(())
    })
}
