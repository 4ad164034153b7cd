//! Random Services by real traffic: the agent leads each client where the model of the API documentation says.
//! `MESH_SEED=N` plays a world again.

use anyhow::{Context, Result, ensure};
use mesh_lab::{Needs, ServiceWorld, test};

/// As many Services and questions as ten small worlds have.
const SERVICES: u16 = 60;
const QUESTIONS: usize = 300;

#[test]
fn real_clients_are_led_where_the_model_says() -> Result<()> {
    test("model", Needs::Files, |lab| {
        let seed = match std::env::var("MESH_SEED") {
            Ok(text) => text.parse().with_context(|| format!("MESH_SEED={text}"))?,
            Err(_) => u64::from(std::process::id()),
        };
        println!("MESH_SEED={seed}");
        let world = ServiceWorld::new(lab, seed, SERVICES)?;
        lab.source().write("world.json", &world.manifests())?;
        let _agent = world.node("one")?.agent()?;
        let mut wrong = Vec::new();
        for (number, question) in world.questions("one", seed, QUESTIONS)?.iter().enumerate() {
            // Every other one by the packet path.
            let asked = world.ask(question, number % 2 == 1)?;
            if !asked.agrees {
                wrong.push(format!("{asked:?}\n{}", world.world.about(question)));
            }
        }
        ensure!(
            wrong.is_empty(),
            "{} differ, MESH_SEED={seed}:\n{}",
            wrong.len(),
            wrong.join("\n\n")
        );
        Ok(())
    })
}
