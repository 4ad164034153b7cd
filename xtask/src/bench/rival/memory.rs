//! What a Service and an EndpointSlice cost the agent in resident memory: measured before there are more of them, with the
//! Services alone, and with both.

use anyhow::Result;
use mesh_lab::AgentOptions;

use super::{
    contender::Contender,
    process::Memory,
    world::{Seat, World},
};

/// Fewer objects more say nothing.
const FEWEST: u32 = 5_000;

/// The agent's resident memory in kibibytes, step by step.
pub(super) struct Steps<'a> {
    binary: &'a std::path::Path,
    /// How many of each kind come.
    more: u32,
    resident: Vec<u64>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(binary: &'a std::path::Path, world: &World, services: u32) -> Self {
        Self {
            binary,
            more: services.saturating_sub(world.services),
            resident: Vec::new(),
        }
    }

    /// One more step, if there is an agent to ask and enough to see.
    pub(super) fn step(&mut self, world: &World) -> Result<()> {
        let seat = world
            .seats
            .iter()
            .find(|seat| seat.contender == Contender::Agent);
        match seat {
            Some(seat) if self.more >= FEWEST => self.resident.push(resident(seat, self.binary)?),
            Some(_) | None => {}
        }
        Ok(())
    }

    /// The sentence, if all three steps were taken.
    pub(super) fn sentence(&self) -> Option<String> {
        let [before, services, both] = self.resident[..] else {
            return None;
        };
        let each = |more: u64, less: u64| more.saturating_sub(less) * 1024 / u64::from(self.more);
        Some(format!(
            "Resident memory of a freshly started agent for each of {} objects more, with all that follows from them in \
             its tables: {} bytes a Service, {} bytes an EndpointSlice of ten endpoints.",
            self.more,
            each(services, before),
            each(both, services)
        ))
    }
}

fn resident(seat: &Seat, binary: &std::path::Path) -> Result<u64> {
    let options = AgentOptions::binary(binary)
        .flag("--max-backends")
        .flag("1048576");
    let mut agent = seat.node.agent_with(&options)?;
    let memory = Memory::of(agent.pid())?;
    agent.terminate()?;
    agent.cli(&["cleanup"])?.ok()?;
    Ok(memory.resident)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_charged_with_its_own_step() {
        let steps = Steps {
            binary: std::path::Path::new("agent"),
            more: 1024,
            resident: vec![1000, 1500, 3500],
        };
        let sentence = steps.sentence().unwrap();
        assert!(
            sentence.contains("500 bytes a Service, 2000 bytes an EndpointSlice"),
            "{sentence}"
        );
    }
}
