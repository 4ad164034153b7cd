//! The packet programs without any packet on a wire: the object in the kernel beside the same stages in memory (`Sim`),
//! the same tables in both, and packets through both. For the comparison of the two, and for the bench.

mod compare;
mod corpus;
mod mutate;
mod programs;
mod small;
mod tables;
mod world;

pub use compare::Twin;
pub use corpus::{Corpus, Recorded, corpus};
pub use mutate::Mutations;
pub use programs::{PacketPrograms, Ran};
pub use small::EmptyProgram;
pub use world::PacketWorld;
